# What is built for which router. To be sourced.
# shellcheck shell=bash

# Our names for processor families, in the order in which everything is built.
# shellcheck disable=SC2034 # used by those who source this
ARCHES=(x86_64 aarch64 armv7 mipsel mips riscv64)

# rust_target ARCH: rustc's name for it.
rust_target() {
    case "$1" in
        x86_64) echo x86_64-unknown-linux-musl ;;
        aarch64) echo aarch64-unknown-linux-musl ;;
        armv7) echo armv7-unknown-linux-musleabihf ;;
        mipsel) echo mipsel-unknown-linux-musl ;;
        mips) echo mips-unknown-linux-musl ;;
        riscv64) echo riscv64gc-unknown-linux-musl ;;
        *) return 1 ;;
    esac
}

# rust_flags ARCH: what rustc must be told for it.
rust_flags() {
    # zig brings its own start files; rustc's copies are not there without rustup's downloads.
    local flags="-C link-self-contained=no"
    # A panic ends the daemon: tables for unwinding would be a sixth of it.
    flags+=" -C force-unwind-tables=no"
    case "$1" in
        # A position-independent static executable dies at its start there.
        mips | mipsel) flags+=" -C relocation-model=static" ;;
    esac
    case "$1" in
        # 64-bit time: without this, 2038 is the end.
        armv7 | mips | mipsel) flags+=" --cfg libc_unstable_musl_v1_2" ;;
    esac
    echo "$flags"
}

# elf_machine ARCH: what the built file must say of itself: class and data (bytes 5 and 6 of the
# ELF header, "21" being 64 bits, little endian) and e_machine.
elf_machine() {
    case "$1" in
        x86_64) echo "21 62" ;;
        aarch64) echo "21 183" ;;
        armv7) echo "11 40" ;;
        mipsel) echo "11 8" ;;
        mips) echo "12 8" ;;
        riscv64) echo "21 243" ;;
    esac
}

# most_bytes ARCH: the installed router binary may be this large. Flash of 16 MB is usual, on whatever
# processor.
most_bytes() {
    echo 2500000
}

# openwrt_arches ARCH RELEASE: the package architectures that run it, as that release of OpenWrt
# names them.
openwrt_arches() {
    case "$1" in
        x86_64) echo x86_64 ;;
        aarch64) echo aarch64_generic aarch64_cortex-a53 aarch64_cortex-a72 ;;
        armv7) echo arm_cortex-a7_neon-vfpv4 arm_cortex-a9_vfpv3-d16 arm_cortex-a15_neon-vfpv4 ;;
        mipsel) echo mipsel_24kc ;;
        mips) echo mips_24kc ;;
        riscv64) if [ "$2" = 24.10 ]; then echo riscv64_riscv64; else echo riscv64_generic; fi ;;
    esac
}
