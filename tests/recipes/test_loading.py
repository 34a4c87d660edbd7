"""Sources of a recipe's values, and the folder that a recipe with faults names."""

import pytest
import yaml

from dst_dist.errors import ConfigError
from dst_dist.recipes.loading import load_recipe, output_dir_of, packaged_recipes
from tests.recipes.reading import faults_of


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_loads_and_says_what_it_is_for(name):
    recipe = load_recipe([name])
    assert recipe.output_dir == f"runs/{name}"
    assert recipe.finetune.mode == ("lora" if name.endswith("lora") else "full")


def test_the_packaged_recipes_are_these():
    of_models = [f"{model}-{mode}" for model in ("2.2B", "256M", "500M") for mode in ("full", "lora")]
    assert packaged_recipes() == [*of_models, "demo", "full", "lora"]


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


def test_null_clears_a_value(tmp_path):
    path = write(tmp_path, "a.yaml", "train: {max_steps: 5}\neval: {dst_threshold: 0.5}\n")
    recipe = load_recipe([path, "train.max_steps=null", "eval.dst_threshold="])
    assert recipe.train.max_steps is None
    assert recipe.eval.dst_threshold is None


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "<<: {b: 1}\na: 1\na: 2",
        "<<: {a: 1, a: 2}",
        "s:\n  a: 1\n  b: 2\n  a: 1",
        "s: {a: 1, a: 1}",
        "- {a: 1, a: 2}",
    ],
)
def test_a_key_given_twice_is_a_fault(tmp_path, text):
    (fault, *_) = faults_of(write(tmp_path, "a.yaml", text))
    assert "key given twice" in fault and fault.endswith(": a")
    assert "key given twice" in faults_of("lora", "optim={a: 1, a: 2}")[0]


MERGED = {
    "a mapping": ("loss:\n  <<: {lm: 2.0, dst_gen: 3.0}\n  dst_gen: 0.5", (2.0, 0.5)),
    "the own key first": ("loss: {dst_gen: 0.5, <<: {lm: 2.0, dst_gen: 3.0}}", (2.0, 0.5)),
    "several": ("loss:\n  <<: [{lm: 2.0}, {dst_gen: 3.0}]", (2.0, 3.0)),
}


@pytest.mark.parametrize("text, expected", MERGED.values(), ids=MERGED)
def test_a_merge_key_gives_what_the_mapping_itself_does_not(tmp_path, text, expected):
    loss = load_recipe([write(tmp_path, "a.yaml", text)]).loss
    assert (loss.lm, loss.dst_gen) == expected


def test_a_merged_anchor_gives_its_keys(tmp_path):
    path = write(tmp_path, "a.yaml", "eval: &every {every_steps: 7}\ncheckpoint:\n  <<: *every\n  keep: 5\n")
    recipe = load_recipe([path])
    assert (recipe.eval.every_steps, recipe.checkpoint.every_steps, recipe.checkpoint.keep) == (7, 7, 5)


@pytest.mark.parametrize("text", ["010", "-0_17", "1:30", "1:30.5"])
def test_numbers_that_yaml_reads_as_another_are_refused(tmp_path, text):
    path = write(tmp_path, "a.yaml", f"optim: {{betas: [0.9, {text}]}}\n")
    for (fault,) in (faults_of("lora", f"seed={text}"), faults_of(path)):
        assert f"{text} " in fault and "write" in fault
    assert load_recipe(["lora", f"output_dir={text}"]).output_dir.endswith(text)


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


def test_an_earlier_runs_recipe_is_found_in_a_folder_named_after_a_setting(tmp_path):
    folder = tmp_path / "lr=2e-5"
    folder.mkdir()
    assert load_recipe([write(folder, "config.yaml", "seed: 5"), "output_dir=x"]).seed == 5


def test_all_faults_of_all_sources_at_once(tmp_path):
    first = write(tmp_path, "a.yaml", "optim: {betas: 3}\nlosses: {}\n")
    second = write(tmp_path, "b.yaml", "seed: [")
    faults = faults_of(first, second, "none.yaml", "train.num_epochs=0", "=4", "seed=']")
    for word in ("b.yaml", "none.yaml", "=4", "seed=']", "optim.betas", "losses", "train.num_epochs"):
        assert sum(word in fault for fault in faults) == 1, (word, faults)
    assert len(faults) == 7


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
        ["a.yaml", "output_dir="],
        ["a.yaml", "output_dir=$NOT_SET/y"],
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
