#!/usr/bin/env bash
# Fetch DensePose's UV tables into data/UV_data: UV_Processed.mat and UV_symmetry_transforms.mat.
# The archive is checked before anything is put in place; after a failure nothing is left behind.
# A file that is there already but is no MATLAB file is fetched again.
# DENSEPOSE_UV_URL overrides the address (a mirror, or file:///... for an archive already here; needs curl).
set -euo pipefail

url=${DENSEPOSE_UV_URL:-https://dl.fbaipublicfiles.com/densepose/densepose_uv_data.tar.gz}
files=(UV_Processed.mat UV_symmetry_transforms.mat)
data=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/data
target=$data/UV_data

fail() {
    echo "get_densepose_uv.sh: $*" >&2
    exit 1
}

# Published are MATLAB 5 files far above 10 kB; error pages and cut files are not.
is_mat() {
    [ -f "$1" ] && [ "$(wc -c <"$1")" -ge 10000 ] && head -c 19 "$1" | grep -qx 'MATLAB 5.0 MAT-file'
}

missing=()
for name in "${files[@]}"; do
    is_mat "$target/$name" && continue
    [ ! -d "$target/$name" ] || fail "$target/$name is a folder; move it away."
    [ ! -e "$target/$name" ] || echo "$target/$name is no whole MATLAB file; fetching it again."
    missing+=("$name")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "$target already holds ${files[*]}."
    exit 0
fi

mkdir -p "$data"
work=$(mktemp -d "$data/.densepose_uv.XXXXXX")
placed=()
finished=no
clean_up() {
    if [ "$finished" = no ]; then
        for name in ${placed[@]+"${placed[@]}"}; do
            rm -f "$target/$name"
        done
        rmdir "$target" 2>/dev/null || true # only when empty
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "Fetching $url"
archive=$work/archive.tar.gz
if command -v curl >/dev/null; then
    curl --fail --location --silent --show-error --retry 3 --output "$archive" "$url" ||
        fail "could not fetch $url. Check the connection, or set DENSEPOSE_UV_URL."
elif command -v wget >/dev/null; then
    wget --quiet --tries=3 --output-document="$archive" "$url" ||
        fail "could not fetch $url. Check the connection, or set DENSEPOSE_UV_URL."
else
    fail "needs curl or wget; neither is installed."
fi

tar -tzf "$archive" >"$work/names" 2>/dev/null || fail "what came from $url is no whole .tar.gz archive."
tar -tvzf "$archive" >"$work/listing"
if grep -q '^-' "$work/names"; then
    fail "the archive holds names that read as options; refused."
fi
if grep -Eq '^/|(^|/)\.\.(/|$)' "$work/names"; then
    fail "the archive names paths outside its folder; refused."
fi
if grep -Evq '^[-d]' "$work/listing"; then
    fail "the archive holds links or special files; refused."
fi

mkdir "$work/UV_data"
for name in "${missing[@]}"; do
    member=$(grep -E "(^|/)${name//./\\.}\$" "$work/names" | head -n 1) || fail "the archive lacks $name."
    tar -xzOf "$archive" -- "$member" >"$work/UV_data/$name" || fail "$name could not be unpacked."
    is_mat "$work/UV_data/$name" || fail "$name in the archive is empty, cut or no MATLAB 5 file."
done

mkdir -p "$target"
for name in "${missing[@]}"; do
    placed+=("$name")
    mv -f "$work/UV_data/$name" "$target/$name"
done
finished=yes
echo "$target now holds ${files[*]}."
