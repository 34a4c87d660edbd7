"""Recipes that are wrong: what each is, and the words that its error must contain."""


def words(*extra):
    """Return a case in which only the words of the recipe are wrong."""
    return lambda world: list(extra)


def recipe_file(content):
    """Return a case in which a YAML file of this content is merged over the sound recipe."""

    def write(world):
        path = world.folder / "site.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [str(path)]

    return write


def output_in_a_loop(world):
    (world.folder / "loop").symlink_to(world.folder / "loop")
    return [f"output_dir={world.folder}/loop/run"]


def output_in_a_file(world):
    (world.folder / "file").touch()
    return [f"output_dir={world.folder}/file/run"]


RECIPES = {
    "no such recipe": (words("lroa"), ("recipe lroa", "did you mean lora?", "demo, full, lora")),
    "a folder is no recipe": (words("/tmp"), ("recipe /tmp", "no such file")),
    "unknown option": (words("--learning-rate", "3"), ("--learning-rate: unknown option", "optim.learning_rate=2e-5")),
    "option with a value": (words("--learning_rate=3"), ("--learning_rate: unknown key", "optim.learning_rate?")),
    "not YAML": (recipe_file("optim: [1"), ("site.yaml: not valid YAML", "line 1")),
    "tabs in YAML": (recipe_file("optim:\n\tbetas: 1"), ("site.yaml: not valid YAML", "line 2")),
    "YAML of a list": (recipe_file("- a"), ("site.yaml", "mapping of sections", "found list")),
    "YAML of two documents": (recipe_file("seed: 1\n---\nseed: 2"), ("site.yaml: not valid YAML", "single document")),
    "YAML makes objects": (recipe_file("seed: !!python/object:os.system x"), ("site.yaml: not valid YAML", "tag")),
    "YAML too deep": (recipe_file("[" * 1000), ("site.yaml: not valid YAML", "nested too deeply")),
    "not text": (recipe_file(b"\xff\xfe\x00"), ("site.yaml: cannot be read", "utf-8")),
    "key twice": (recipe_file("seed: 1\nseed: 2"), ("site.yaml", "key given twice", "line 1", "seed")),
    "section twice": (recipe_file("optim: {betas: [0, 0]}\nseed: 0\noptim: {}"), ("key given twice", "optim")),
    "key twice in a section": (recipe_file("optim:\n  lr: 1\n  lr: 2"), ("key given twice", "line 2", "lr")),
    "key is a number": (recipe_file("1: 2"), ("every key must be a word", "found 1")),
    "impossible date": (words("seed=2024-99-99"), ("seed=2024-99-99", "not valid YAML")),
    "value is no YAML": (words("data.train=[kitchen"), ("data.train=[kitchen: the value is not valid YAML",)),
    "no key": (words("=3"), ("=3: write section.key=value",)),
    "empty part of a key": (words("optim..betas=3"), ("optim..betas=3: write section.key=value",)),
    "mistyped key": (
        words("optim.lerning_rate=1"),
        ("optim.lerning_rate: unknown key; did you mean optim.learning_rate?",),
    ),
    "mistyped section": (words("modle.tokens_per_frame=1"), ("modle: unknown key; did you mean model?",)),
    "key of another section": (words("train.learning_rate=1"), ("did you mean optim.learning_rate?",)),
    "key of two sections": (words("train.every_steps=1"), ("eval.every_steps or ", "log.every_steps?")),
    "key without its section": (words("tokens_per_frame=1"), ("did you mean model.tokens_per_frame?",)),
    "section without its section": (words("lora.rank=1"), ("lora: unknown key; did you mean finetune.lora?",)),
    "unlike any key": (words("optim.quux=1"), ("optim.quux: unknown key; known here: learning_rate,",)),
    "the predecessor's weight": (words("dst_binary_weight=2"), ("did you mean loss.dst_update?",)),
    "the predecessor's rate": (words("neg_frame_sampling_rate=0"), ("did you mean labels.neg_frame_sampling_rate?",)),
    "the predecessor's tokens": (words("data.num_tokens_per_img=1"), ("did you mean model.tokens_per_frame?",)),
    "peft's rank": (words("lora_r=8"), ("did you mean finetune.lora.rank?",)),
    "peft's alpha": (words("finetune.lora.lora_alpha=8"), ("did you mean finetune.lora.alpha?",)),
    "section is a number": (words("optim=3"), ("optim: must be a section of keys (found 3)",)),
    "section is empty": (recipe_file("optim:\nseed: 1"), ("optim: must be a section of keys (found None)",)),
    "text for a number": (
        words("optim.learning_rate=fast"),
        ("optim.learning_rate: must be a valid number (found 'fast')",),
    ),
    "true for a number": (
        words("optim.learning_rate=true"),
        ("optim.learning_rate: must be a valid number (found True)",),
    ),
    "number that is none": (words("optim.learning_rate=.nan"), ("optim.learning_rate: must be a finite number",)),
    "infinite weight": (words("loss.lm=.inf"), ("loss.lm: must be a finite number (found inf)",)),
    "negative rate": (words("optim.learning_rate=-1e-4"), ("optim.learning_rate: must be greater than or equal to 0",)),
    "zero clipping": (words("optim.max_grad_norm=0"), ("optim.max_grad_norm: must be greater than 0 (found 0)",)),
    "a beta of 1": (words("optim.betas=[0.9, 1]"), ("optim.betas: must be less than 1 (found 1)",)),
    "no weight above 0": (
        words("loss={lm: 0, dst_gen: 0, dst_update: 0, speaking: 0}"),
        ("loss: nothing is trained, every weight is 0",),
    ),
    "two sections that contradict two others": (
        words("checkpoint.final=best", "data.val=[]", "data.feature_cache=features", "finetune.train.vision=true"),
        (
            "checkpoint.final: best is chosen by validation, and data.val is empty; set it to last; data.feature_cache "
            "keeps what a frozen tower makes of frames, and finetune.train.vision trains the tower; set one of them to "
            "null or false",
        ),
    ),
    "one beta": (words("optim.betas=[0.9]"), ("optim.betas: has too few entries (found [0.9])",)),
    "fraction of a step": (words("train.max_steps=1.5"), ("train.max_steps: must be a valid integer (found 1.5)",)),
    "zero epochs": (words("train.num_epochs=0"), ("train.num_epochs: must be greater than or equal to 1 (found 0)",)),
    "absurd size": (
        words(f"train.max_tokens={10**20}"),
        ("train.max_tokens: must be 'auto' or a whole number from 1 to 2147483647",),
    ),
    "negative seed": (words("seed=-1"), ("seed: must be greater than or equal to 0 (found -1)",)),
    "share above 1": (
        words("labels.neg_frame_sampling_rate=1.5"),
        ("neg_frame_sampling_rate: must be less than or equal to 1",),
    ),
    "no bool": (
        words("finetune.train.vision=maybe"),
        ("finetune.train.vision: must be a valid boolean (found 'maybe')",),
    ),
    "unknown choice": (words("data.on_missing=skip"), ("data.on_missing: must be 'error', 'filter' or 'placeholder'",)),
    "unknown mode": (words("finetune.mode=qlora"), ("finetune.mode: must be 'lora' or 'full' (found 'qlora')",)),
    "dropout of everything": (words("finetune.lora.dropout=1"), ("finetune.lora.dropout: must be less than 1",)),
    "lora without text": (
        words("finetune.mode=lora", "finetune.train.text=false"),
        ("finetune: mode lora", "set train.text"),
    ),
    "frame tokens are no square": (words("model.tokens_per_frame=2"), ("model.tokens_per_frame: must be a square",)),
    "dataset is no list": (
        words("data.train=kitchen"),
        ("data.train: must be a list: write it in [ ] (found 'kitchen')",),
    ),
    "no dataset": (words("data.train=[]"), ("data.train: has too few entries",)),
    "weight is text": (
        words("data.train=[{kitchen: twice}]"),
        ("data.train: must be a dataset's name, or {name: weight}",),
    ),
    "weight of zero": (words("data.train=[{kitchen: 0}]"), ("data.train: kitchen: weight 0", "1 or more")),
    "empty output_dir": (words("output_dir="), ("output_dir: must not be empty",)),
    "output_dir below a file": (output_in_a_file, ("output_dir", "cannot be written", "Not a directory")),
    "output_dir in a loop of links": (output_in_a_loop, ("output_dir", "cannot be written", "Too many levels")),
    "unknown tracker": (words("log.report_to=[tensorbord]"), ("log.report_to: must be 'tensorboard'", "'tensorbord'")),
    "tracker not installed": (
        words("log.report_to=[comet_ml]"),
        ("log.report_to: not installed: comet_ml", "pip install"),
    ),
}
