#!/usr/bin/env bash
# Builds the node agent for a board, static: cross/build.sh [BOARD] (default rpi-4b). Prints the path of the program.
#
# The Rust target stands in boards/BOARD.toml. What is needed besides Rust is a C compiler for the target, because `ring` has some C.
# For 64-bit boards that is Debian's (gcc-aarch64-linux-gnu, libc6-dev-arm64-cross), and rust-lld links. For 32-bit boards it is zig:
# Debian's ARM compilers make ARMv7, which a Pi Zero does not run. See README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

board=${1:-rpi-4b}
file=boards/$board.toml
[ -f "$file" ] || { echo "cross/build.sh: there is no $file; boards: $(basename -s .toml -a boards/*.toml | xargs)" >&2; exit 2; }
target=$(sed -n 's/^target = "\(.*\)"$/\1/p' "$file")
what=(--profile small --target "$target" --no-default-features --features agent,docker,gpio)

# Debian's cross compiler; the standard library is rustup's.
with_gcc() {
  command -v "$1-gcc" >/dev/null || {
    echo "cross/build.sh: $1-gcc is missing: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2; exit 1; }
  rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2
  local under=${target//-/_}
  export "CC_$under=$1-gcc" "AR_$under=$1-ar" "CARGO_TARGET_${under^^}_LINKER=rust-lld"
  cargo build "${what[@]}" >&2
}

# zig as C compiler, libc and linker, kept in the user's cache. rustup's standard library for ARM is ARMv6 as well, but comes with
# start files that zig brings too: it is built here, for the very processor. `-Z build-std` is not stable: hence RUSTC_BOOTSTRAP.
with_zig() {
  local tools=${BRAMBLE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/bramble/tools} edition=zig-0.15.2-zigbuild-0.24.0
  if [ ! -x "$tools/$edition/bin/cargo-zigbuild" ]; then
    mkdir -p "$tools"
    (
      flock 9
      [ -x "$tools/$edition/bin/cargo-zigbuild" ] && exit
      python3 -m venv "$tools/$edition" >&2 || { echo "cross/build.sh: apt-get install python3-venv" >&2; exit 1; }
      "$tools/$edition/bin/pip" install --quiet ziglang==0.15.2 cargo-zigbuild==0.24.0 >&2
    ) 9>"$tools/$edition.lock"
  fi
  rustup component list --installed | grep -qx rust-src || rustup component add rust-src >&2
  export PATH=$tools/$edition/bin:$PATH RUSTC_BOOTSTRAP=1
  # Build scripts look at RUSTC_BOOTSTRAP: in one folder each board's build would have the other's made anew.
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/zig
  export ZIG_GLOBAL_CACHE_DIR=$tools/zig-cache ZIG_LOCAL_CACHE_DIR=$tools/zig-cache
  # Only the program itself is linked with zig's start files: build scripts are this machine's.
  cargo-zigbuild rustc "${what[@]}" --bin bramble -Z build-std=std,panic_abort -- -C link-self-contained=no >&2
}

case $target in
  aarch64-unknown-linux-musl) with_gcc aarch64-linux-gnu ;;
  x86_64-unknown-linux-musl) with_gcc x86_64-linux-gnu ;;
  arm-unknown-linux-musleabihf) with_zig ;;
  *) echo "cross/build.sh: no recipe for target $target" >&2; exit 2 ;;
esac
echo "${CARGO_TARGET_DIR:-target}/$target/small/bramble"
