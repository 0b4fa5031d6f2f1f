"""Packages for OpenWrt without its SDK: .ipk (24.10) and .apk (25.12), and feeds of them.

What a package is comes from the same Makefile that the SDK reads (`makefile`); `tree` lays out its
files; `ipk` and `apk` (on `adb`) write them; `__main__` is the command line. The same input gives the
same bytes: owner, order and times are fixed.
"""
