#!/usr/bin/env bash
# Builds the node agent for a board, static: cross/build.sh [BOARD] (default rpi-4b). Prints the path of the program.
#
# The Rust target stands in boards/BOARD.toml. What is needed besides Rust is a C compiler for the target (Debian's packages
# gcc-aarch64-linux-gnu and libc6-dev-arm64-cross), because `ring` has some C; rust-lld links.
set -euo pipefail
cd "$(dirname "$0")/.."

board=${1:-rpi-4b}
file=boards/$board.toml
[ -f "$file" ] || { echo "cross/build.sh: there is no $file; boards: $(basename -s .toml -a boards/*.toml | xargs)" >&2; exit 2; }
target=$(sed -n 's/^target = "\(.*\)"$/\1/p' "$file")

case $target in
  aarch64-unknown-linux-musl) prefix=aarch64-linux-gnu ;;
  x86_64-unknown-linux-musl) prefix=x86_64-linux-gnu ;;
  *) echo "cross/build.sh: no recipe for target $target" >&2; exit 2 ;;
esac
command -v "$prefix-gcc" >/dev/null || {
  echo "cross/build.sh: $prefix-gcc is missing: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2; exit 1; }
rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2

under=${target//-/_}
export "CC_$under=$prefix-gcc" "AR_$under=$prefix-ar" "CARGO_TARGET_${under^^}_LINKER=rust-lld"
cargo build --profile small --target "$target" --no-default-features --features agent,docker,gpio >&2
echo "${CARGO_TARGET_DIR:-target}/$target/small/bramble"
