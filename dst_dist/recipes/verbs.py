"""The commands about recipes, read at every start of `dst-dist`: what does the work is imported when it runs."""

import argparse


def declare_recipe(commands) -> None:
    """Declare the arguments of `dst-dist recipe`."""
    command = commands.add_parser("recipe", help="print a packaged recipe with its comments, to copy and edit")
    command.add_argument("name", help="its name; --help of `python -m dst_dist.train` lists them")
    command.set_defaults(run=_run_recipe)


def _run_recipe(options: argparse.Namespace) -> None:
    from dst_dist.recipes.keys import copy_of

    print(copy_of(options.name), end="")


def declare_explain(commands) -> None:
    """Declare the arguments of `dst-dist explain`."""
    command = commands.add_parser("explain", help="say what a key or a section of the recipe decides")
    command.add_argument("key", help="for example train.max_tokens, or optim")
    command.set_defaults(run=_run_explain)


def _run_explain(options: argparse.Namespace) -> None:
    from dst_dist.recipes.keys import explain

    print(explain(options.key))


def declare_schema(commands) -> None:
    """Declare the arguments of `dst-dist schema`."""
    command = commands.add_parser("schema", help="print the JSON schema of a recipe, for editors")
    command.set_defaults(run=_run_schema)


def _run_schema(options: argparse.Namespace) -> None:
    from dst_dist.recipes.keys import schema

    print(schema(), end="")
