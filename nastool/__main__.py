"""``python -m nastool``: the command line where the script is not on the path."""

from nastool.cli.main import main

main(prog_name="nastool")
