# CPU only:  docker build -t danet . && docker run --rm -v "$PWD/photos:/photos" danet --img_dir /photos --out_dir /photos/danet
FROM python:3.12-slim
WORKDIR /danet
COPY requirements.txt .
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"; fi \
    && pip install --no-cache-dir -r requirements.txt
COPY . .
RUN useradd --create-home person
USER person
ENTRYPOINT ["python", "demo.py"]
