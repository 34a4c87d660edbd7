"""The recipe: where a value comes from, what it becomes, and which key was meant."""

import math
import typing

import pytest
import yaml
from pydantic import BaseModel

from dst_dist import config
from dst_dist.errors import ConfigError
from dst_dist.recipes import faults as recipe_faults
from dst_dist.recipes.loading import load_recipe, output_dir_of, packaged_recipes


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def faults_of(*words):
    with pytest.raises(ConfigError) as caught:
        load_recipe(words)
    return caught.value.faults


def all_keys():
    """Every key of the recipe with its path and its field."""

    def walk(section, above):
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, (*above, name))
            else:
                yield ".".join((*above, name)), field

    return dict(walk(config.Recipe, ()))


@pytest.mark.parametrize("name", ["demo", "lora", "full"])
def test_every_packaged_recipe_loads_and_says_what_it_is_for(name):
    recipe = load_recipe([name])
    assert recipe.output_dir == f"runs/{name}"
    assert recipe.finetune.mode == ("lora" if name == "lora" else "full")
    assert name in packaged_recipes()


def test_the_packaged_recipes_are_these():
    assert packaged_recipes() == ["demo", "full", "lora"]


def test_recipes_merge_left_to_right_and_words_come_last(tmp_path):
    first = write(
        tmp_path, "a.yaml", "seed: 1\noptim: {learning_rate: 0.1, weight_decay: 0.1}\ndata: {train: [a, b]}\n"
    )
    second = write(tmp_path, "b.yaml", "optim: {learning_rate: 0.2}\ndata: {train: [c]}\n")
    recipe = load_recipe(["optim.warmup_steps=3", first, "seed=7", second, "seed=8"])
    assert recipe.optim.learning_rate == 0.2
    assert recipe.optim.weight_decay == 0.1
    assert recipe.optim.warmup_steps == 3
    assert recipe.data.train == ["c"]
    assert recipe.seed == 8
    assert load_recipe([second, first]).optim.learning_rate == 0.1
    assert load_recipe([first, second, "optim.learning_rate=0.3"]).optim.learning_rate == 0.3


def test_what_no_source_names_is_the_default():
    recipe = load_recipe(["lora"])
    assert recipe.train.global_batch_size == 64
    assert recipe.finetune.train.model_dump() == {"vision": False, "connector": True, "text": True}
    assert recipe.finetune.lora.rank == 64


def test_a_whole_section_may_be_given_as_a_word():
    recipe = load_recipe(["lora", "finetune={mode: full, train: {vision: true}}", "data.train=[{kitchen: 2}, x.json]"])
    assert recipe.finetune.mode == "full"
    assert recipe.finetune.train.model_dump() == {"vision": True, "connector": True, "text": True}
    assert recipe.data.train == [{"kitchen": 2}, "x.json"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-5", 2e-5), ("2E-5", 2e-5), ("1e3", 1000.0), ("2.0e-5", 2e-5), ("'2e-5'", 2e-5), ("3", 3.0), (".5", 0.5)],
)
def test_a_number_is_what_a_person_means(tmp_path, text, value):
    assert load_recipe(["lora", f"optim.learning_rate={text}"]).optim.learning_rate == value
    path = write(tmp_path, "a.yaml", f"optim: {{learning_rate: {text}, betas: [{min(value, 0.5)}, 9e-1]}}")
    recipe = load_recipe([path])
    assert recipe.optim.learning_rate == value
    assert recipe.optim.betas[1] == 0.9


def test_a_fraction_of_a_count_is_not_rounded_and_text_is_no_count():
    assert faults_of("lora", "train.num_epochs=1e1") == ("train.num_epochs: must be a valid integer (found '1e1')",)
    assert faults_of("lora", "train.num_epochs=2.0") == ("train.num_epochs: must be a valid integer (found 2.0)",)


def test_null_clears_a_value(tmp_path):
    path = write(tmp_path, "a.yaml", "train: {max_steps: 5}\neval: {dst_threshold: 0.5}\n")
    recipe = load_recipe([path, "train.max_steps=null", "eval.dst_threshold="])
    assert recipe.train.max_steps is None
    assert recipe.eval.dst_threshold is None


@pytest.mark.parametrize("text", ["a: 1\na: 2", "s:\n  a: 1\n  b: 2\n  a: 1", "s: {a: 1, a: 1}", "- {a: 1, a: 2}"])
def test_a_key_given_twice_is_a_fault(tmp_path, text):
    (fault, *_) = faults_of(write(tmp_path, "a.yaml", text))
    assert "key given twice" in fault and fault.endswith(": a")
    assert "key given twice" in faults_of("lora", "optim={a: 1, a: 2}")[0]


@pytest.mark.parametrize("name", ["demo", "lora", "full"])
def test_the_resolved_recipe_loads_again_as_the_same(tmp_path, name):
    recipe = load_recipe(
        [name, "optim.learning_rate=1e-7", "optim.betas=[0, 1e-3]", "data.val=[{a: 2}]", "seed=4294967295"]
    )
    text = recipe.to_yaml()
    again = load_recipe([write(tmp_path, "config.yaml", text)])
    assert again == recipe
    assert again.to_yaml() == text
    assert yaml.safe_load(text)["optim"]["betas"] == [0.0, 0.001]


def test_the_resolved_recipe_names_every_key_in_the_order_of_the_sections():
    values = yaml.safe_load(load_recipe(["lora"]).to_yaml())
    assert list(values)[:7] == ["seed", "output_dir", "model", "finetune", "data", "labels", "loss"]
    for key in all_keys():
        value = values
        for part in key.split("."):
            value = value[part]


def test_an_earlier_runs_recipe_is_found_in_a_folder_named_after_a_setting(tmp_path):
    folder = tmp_path / "lr=2e-5"
    folder.mkdir()
    assert load_recipe([write(folder, "config.yaml", "seed: 5"), "output_dir=x"]).seed == 5


def test_every_key_refuses_a_value_of_another_type():
    """A mapping under a key that is none of the recipe's sections is wrong for every single key."""
    for key in all_keys():
        (fault,) = dict.fromkeys(fault.split(":")[0] for fault in faults_of("lora", f"{key}={{wrong: [1]}}"))
        assert fault == key


def test_every_number_refuses_what_is_not_finite():
    numbers = [key for key, field in all_keys().items() if "float" in str(field.annotation)]
    assert len(numbers) >= 15
    for key in numbers:
        for value in (".nan", ".inf", "-.inf", "nan", "inf"):
            assert faults_of("lora", f"{key}={value}" if key != "optim.betas" else f"{key}=[{value}, 0]")[0].startswith(
                key
            )


def test_every_choice_is_named_when_another_is_found():
    choices = {
        key: typing.get_args(field.annotation)
        for key, field in all_keys().items()
        if "Literal" in str(field.annotation)
    }
    choices.pop("log.report_to")
    assert len(choices) >= 6
    for key, names in choices.items():
        (fault,) = faults_of("lora", f"{key}=nothing_known")
        assert all(f"'{name}'" in fault for name in names)


@pytest.mark.parametrize("key", sorted(all_keys()))
def test_a_key_with_a_letter_missing_is_recognised(key):
    section, _, name = key.rpartition(".")
    mistyped = f"{section}.{name[:-2] + name[-1]}".lstrip(".") if len(name) > 2 else f"{section}.{name}x"
    (fault,) = faults_of("lora", f"{mistyped}=1")
    assert fault.startswith(f"{mistyped}: unknown key; did you mean ")
    assert key in fault


@pytest.mark.parametrize("old", sorted(recipe_faults.RENAMED))
def test_a_renamed_key_is_pointed_to_one_that_exists(old):
    new = recipe_faults.RENAMED[old]
    places = [".".join(place) for place in recipe_faults.places_of(config.Recipe)]
    assert new in places
    for word in (f"{old}=1", f"train.{old}=1", f"finetune.lora.{old}=1"):
        assert faults_of("lora", word)[0].endswith(f"unknown key; did you mean {new}?")


def test_all_faults_of_all_sources_at_once(tmp_path):
    first = write(tmp_path, "a.yaml", "optim: {betas: 3}\nlosses: {}\n")
    second = write(tmp_path, "b.yaml", "seed: [")
    faults = faults_of(first, second, "none.yaml", "train.num_epochs=0", "=4", "seed=']")
    for word in ("b.yaml", "none.yaml", "=4", "seed=']", "optim.betas", "losses", "train.num_epochs"):
        assert sum(word in fault for fault in faults) == 1, (word, faults)
    assert len(faults) == 7


def test_long_values_are_cut_short():
    (fault,) = faults_of("lora", f"seed={'x' * 10_000}")
    assert len(fault) < 150


def test_the_output_folder_is_known_in_spite_of_faults(tmp_path):
    path = write(tmp_path, "a.yaml", "output_dir: runs/x\nfoo: 1\n")
    assert output_dir_of([path, "seed=[", "optim.lr=3"]) == "runs/x"
    assert output_dir_of(["demo", "output_dir=runs/y"]) == "runs/y"
    assert output_dir_of([path, "none.yaml", "--lr=3", "output_dir=runs/y"]) == "runs/y"
    assert output_dir_of(["demo"]) == "runs/demo"
    assert output_dir_of(["seed=3"]) == "runs/lora"


@pytest.mark.parametrize(
    "words",
    [
        ["a.yaml", "dmeo"],
        ["a.yaml", "cut.yaml"],
        ["a.yaml", "--output-dir", "runs/y"],
        ["a.yaml", "--output_dir=runs/y"],
        ["a.yaml", "outptu_dir=runs/y"],
        ["a.yaml", "runs/lr=3/confg.yaml"],
        ["a.yaml", "output_dir=[runs/y"],
        ["a.yaml", "output_dir="],
        ["a.yaml", "output_dir={a: 1}"],
        ["number.yaml"],
        ["mistyped.yaml"],
        [],
    ],
)
def test_the_output_folder_is_unknown_where_another_may_have_been_meant(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.yaml", "output_dir: runs/x\n")
    write(tmp_path, "cut.yaml", "output_dir: [\n")
    write(tmp_path, "number.yaml", "output_dir: 3\n")
    write(tmp_path, "mistyped.yaml", "outputdir: runs/y\n")
    assert output_dir_of(words) is None
    with pytest.raises(ConfigError):
        load_recipe(words)


def test_a_recipe_cannot_be_changed_afterwards():
    recipe = load_recipe(["lora"])
    with pytest.raises(ValueError):
        recipe.seed = 1


def test_defaults_are_within_their_own_limits():
    assert config.Recipe.model_validate(config.Recipe().model_dump()) == config.Recipe()
    assert math.isfinite(config.Recipe().optim.learning_rate)
