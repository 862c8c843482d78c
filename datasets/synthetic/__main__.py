"""Entry point of `python -m datasets.synthetic`."""

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()  # before the imports, which take seconds and may fail

from datasets.synthetic.dataset import main

if __name__ == "__main__":
    run_script(main)
