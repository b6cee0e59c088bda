"""``siglip2 push DIR OWNER/NAME``: an exported head on the Hugging Face hub."""

import argparse

from ..storage.hub import push


def run(command: str, arguments: list[str]) -> None:
    """Upload the head and say where it is."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument("directory", help="folder that `siglip2 export` wrote")
    parser.add_argument("repository", help="OWNER/NAME; made if it is not there")
    parser.add_argument("--private", action="store_true", help="only you, or your organisation, can see it")
    args = parser.parse_args(arguments)
    address = push(args.directory, args.repository, private=args.private)
    print(f'Pushed to {address}\nNext: heads.load("{args.repository}")')
