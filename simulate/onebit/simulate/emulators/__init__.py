"""Emulated cores: each runs a bare-metal ELF image that reads its samples and writes its results by semihosting."""
