"""The reproduction of Callahan & Paskett (2021), one idea a file."""
