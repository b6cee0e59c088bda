"""``siglip2 push DIR OWNER/NAME``: upload an exported head to the Hugging Face hub."""

import argparse

from ..storage.hub import push


def run(command: str, arguments: list[str]) -> None:
    """Upload the head and print its address."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument("directory", help="folder that `siglip2 export` wrote")
    parser.add_argument("repository", help="OWNER/NAME; created if missing")
    parser.add_argument("--private", action="store_true", help="visible only to you or your organisation")
    args = parser.parse_args(arguments)
    address = push(args.directory, args.repository, private=args.private)
    print(f'Pushed to {address}\nNext: heads.load("{args.repository}")')
