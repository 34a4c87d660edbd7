"""`accelerate launch --config_file launch/<engine>.yaml -m dst_dist.train <recipe>... [key=value ...]`."""

import argparse
import sys
import traceback
from pathlib import Path

from dst_dist.errors import ConfigError, DstDistError, collect
from dst_dist.exit import BAD_USAGE, DONE, FAILED, leave, let_leader_speak
from dst_dist.launch_settings import read_launch_settings
from dst_dist.launched import is_main
from dst_dist.paths import path_argument
from dst_dist.recipes.loading import load_recipe, output_dir_of, packaged_recipes
from dst_dist.terminal import print_any_text
from dst_dist.train.held_folder import HeldFolder, check_start_model, write_status_file
from dst_dist.train.stop import StopRequest
from dst_dist.versions import check_versions


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the command line; unknown words are left to the check of the recipe. SystemExit(0) on --help."""
    parser = argparse.ArgumentParser(
        prog="python -m dst_dist.train",
        description="Train a model. Run it under accelerate launch; by itself it trains in one process.",
    )
    recipes = f"recipes ({', '.join(packaged_recipes())}, or YAML files), merged left to right, then key=value"
    allow = "resume although this differs: a key of the recipe, or dataset, samples, model, frozen, engine, layers"
    parser.add_argument("recipe", nargs="*", help=recipes)
    parser.add_argument(
        "--status-file", type=path_argument, help="write status.json here instead of into the run folder"
    )
    parser.add_argument("--allow-changed", action="append", default=[], metavar="KEY", help=allow)
    options, unknown = parser.parse_known_intermixed_args(arguments)
    options.recipe += unknown
    return options


def main(arguments: list[str]) -> int:
    """Train as the command line says; return the exit code and write it to status.json."""
    print_any_text()
    options = parse(arguments)
    folder = output_dir_of(options.recipe)
    if folder is None:
        return _refuse_recipe(options)
    run = HeldFolder(Path(folder), options.status_file)
    try:
        stop = StopRequest(run, watches_file=is_main())
        with stop.listening():
            code = _check_and_train(options, run, stop)
    except DstDistError as error:
        run.write_status(BAD_USAGE, str(error))
        return _refuse(error)
    except KeyboardInterrupt:
        run.write_status(FAILED, "interrupted from the keyboard; the same command continues")
        return FAILED
    except Exception as error:
        run.write_status(FAILED, f"{type(error).__name__}: {error}")
        let_leader_speak()
        traceback.print_exception(error)
        return FAILED
    if is_main():
        run.write_status(code, "done" if code == DONE else "stopped on request; the same command continues")
    return code


def _refuse(error: DstDistError) -> int:
    """Print an error that the user can fix."""
    let_leader_speak()
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return BAD_USAGE


def _refuse_recipe(options: argparse.Namespace) -> int:
    """Print what is wrong with a recipe from which the run folder is not known; no folder is touched."""
    try:
        load_recipe(options.recipe)
    except ConfigError as error:
        if is_main() and options.status_file is not None:
            write_status_file(options.status_file, BAD_USAGE, str(error), step=0, replaces=True)
        return _refuse(error)
    raise AssertionError("a recipe without faults names its folder")


def _check_and_train(options: argparse.Namespace, run: HeldFolder, stop: StopRequest) -> int:
    """Lock the run folder, check recipe, launcher and data, then train."""
    if is_main():
        run.lock()
    check_versions()
    recipe = load_recipe(options.recipe)
    check_start_model(recipe.model.name_or_path, run.path)
    read_launch_settings(recipe)
    # Torch and transformers take seconds to import; a mistyped key should not have to wait for them.
    from dst_dist.devices import check_devices
    from dst_dist.logs import logger, set_up_logging
    from dst_dist.model.compiling import why_not_compiled
    from dst_dist.setup import DataSetup
    from dst_dist.train.loop import Trainer

    check_devices()
    set_up_logging(is_main())
    if run.has_final_of(recipe.model_dump(mode="json")):
        logger.info("%s was trained to its end already; see %s", run.path, run.final)
        run.step = run.steps_done()
        return DONE
    setup = DataSetup(recipe)
    collect(setup.faults, lambda: why_not_compiled(recipe.train.compile))
    checks = setup.check() if is_main() else None
    return Trainer(run, setup, checks, stop, options.allow_changed).run()


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
