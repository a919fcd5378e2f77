"""The four heads with all their fields, and what the published PyTorch system sets differently.

`head_sizes=()` means balanced digits for whatever number of classes the data has.
"""


def ohe(head_sizes=()):
    """One-hot encoding: the vanilla classifier, one logit per class."""
    return {
        "name": "ohe",
        "head_sizes": head_sizes,
        # Width of a linear map before the table, which is as narrow then; 0: none.
        "bottleneck": 0,
        # Classes, by `codes.name = 'frequency'` the most frequent ones, with rows of the whole width before the others,
        # which alone have the bottleneck; 0: all rows are of one width.
        "frequent": 0,
        "use_bias": True,
        "label_smoothing": 0.0,
        # Or 'bce', a sigmoid for each class.
        "objective": "softmax",
        # Classes whose logits exist at one time; 0 lets the head choose.
        "block_size": 0,
    }


def mhp(head_sizes=(), rank=1):
    """Multi-Head Product: the logits are a Kronecker sum of short heads."""
    return {
        "name": "mhp",
        "head_sizes": head_sizes,
        "use_bias": True,
        "label_smoothing": 0.0,
        "objective": "ce_per_head",
        # Kronecker products that are added up, and the rows of codes that a top-k searches at a time.
        "rank": rank,
        "num_candidates": 64,
        "mask_padding": True,
    }


def mhc(head_sizes=()):
    """Multi-Head Cascade: coarse to fine, each level scores the children of the nodes kept so far."""
    return {
        "name": "mhc",
        "head_sizes": head_sizes,
        "use_bias": True,
        "label_smoothing": 0.0,
        "hidden_dim": 256,
        # The children of the 10 best nodes of each level compete in one softmax: `path` is the published cascade.
        "objective": "candidates",
        "num_candidates": 10,
        "beam_width": 10,
        "mask_padding": True,
    }


def mhs(head_sizes=(), num_groups=4):
    """Multi-Head Sampling: each step trains the true group of classes and a few others."""
    return {
        "name": "mhs",
        "head_sizes": head_sizes,
        "label_smoothing": 0.0,
        "sampler": sampler("per_example", num_groups=num_groups),
        "mask_padding": True,
        "block_size": 0,
    }


def mhs_of_batch(head_sizes=()):
    """Multi-Head Sampling, each step the groups that occur in its batch: nearly all, where they are few beside it."""
    return {**mhs(head_sizes), "sampler": sampler("batch_union")}


def sampler(name, **fields):
    """A sampler of `mhe_jax.ops.sampling` with all its fields."""
    defaults: dict[str, dict] = {
        # Groups per example, the true one included.
        # Drawn groups stand for all others: their logits are corrected for how seldom they are drawn.
        "per_example": {"num_groups": 4, "drop_one_group": False, "subtract_log_q": True},
        "positive_only": {},
        # Parts of the groups that are sampled apart; 0: as many as devices along 'class'.
        "batch_union": {"parts": 0},
        # Share of all groups in a step; shares that follow it in equal parts of a run.
        "random_groups": {"rate": 0.1, "later_rates": (), "parts": 0, "subtract_log_q": True},
    }
    return {"name": name, **defaults[name], **fields}


# Section 8.1 of the comparison in docs/pytorch.md: each line is one difference that changes numbers.
REFERENCE = {
    "ohe": {},
    # Padded codes stay in the softmax; the product head's loss is set by the pipeline.
    "mhp": {"mask_padding": False},
    # Each level is trained below the true node alone; greedy inference.
    "mhc": {"mask_padding": False, "objective": "path", "beam_width": 1},
    # The published sampler overwrites one of the other groups, so at most n_0 - 1 groups take part.
    "mhs": {"mask_padding": False, "sampler": {"drop_one_group": True, "subtract_log_q": False}},
}


def xmc_ohe(head_sizes=()):
    """One sigmoid per label."""
    fields = {name: value for name, value in ohe(head_sizes).items() if name not in ("label_smoothing", "objective")}
    # `mean` over the labels, as published, makes gradients that shrink with their number.
    # `prior`: share of the labels that a document is expected to have; 0: biases start at even odds, as published.
    return {**fields, "prior": 0.001, "reduction": "sum"}


def xmc_mhp(head_sizes=(), rank=8):
    """A softmax over all labels whose logits are a Kronecker sum, for each label of a document."""
    fields = {name: value for name, value in mhp(head_sizes, rank).items() if name != "objective"}
    return {**fields, "reduction": "sum"}


def xmc_mhc(head_sizes=()):
    """Groups of labels first, then the labels of the best groups; two sigmoid losses."""
    return {
        "name": "mhc",
        "head_sizes": head_sizes,
        "use_bias": True,
        "hidden_dim": 300,
        # Groups whose labels are scored in training, 0: 20 or a fifth of all; and in rankings, 0: as many.
        "num_candidates": 0,
        "beam_width": 0,
        "mask_padding": True,
        # Labels of a document that are positive; 0: all.
        "max_labels": 0,
        # Share of the labels that a document is expected to have; 0: logits start at even odds, as published.
        "prior": 0.001,
        # Of a level's loss over its candidates.
        "reduction": "sum",
    }


def xmc_mhs(head_sizes=()):
    """A softmax over the groups of labels that occur in a batch, for each label of a document."""
    return {**mhs_of_batch(head_sizes), "reduction": "sum"}


# Of one class an example, and of many labels. A sum of eight products learns faster than one; groups are those of the
# batch.
ONE_CLASS = {"ohe": ohe, "mhp": lambda sizes: mhp(sizes, rank=8), "mhc": mhc, "mhs": mhs_of_batch}
MANY_LABELS = {"ohe": xmc_ohe, "mhp": xmc_mhp, "mhc": xmc_mhc, "mhs": xmc_mhs}


XMC_REFERENCE = {
    "ohe": {"reduction": "mean", "prior": 0.0},
    "mhp": {},
    "mhc": {"mask_padding": False, "max_labels": 100, "prior": 0.0, "reduction": "mean"},
    "mhs": {},
}


def margin(name="arcface", **fields):
    """A margin of `mhe_jax.ops.margins` with all its fields."""
    defaults: dict[str, dict] = {
        "none": {},
        "arcface": {"m": 0.5, "beyond": "shift", "reference_gradient": False},
        "cosface": {"m": 0.4},
        "combined": {"m1": 1.0, "m2": 0.3, "m3": 0.2},
        "curricularface": {"m": 0.5, "alpha": 0.01},
        "magface": {
            "l_a": 10.0,
            "u_a": 110.0,
            "l_margin": 0.45,
            "u_margin": 0.8,
            "lambda_g": 35.0,
            "beyond": "easy",
        },
        "adaface": {"m": 0.4, "h": 0.333, "t_alpha": 0.01},
    }
    return {"name": name, "scale": 64.0, **defaults[name], **fields}


def face_ohe(head_sizes=()):
    """A margin softmax over all identities."""
    return {"name": "ohe", "head_sizes": head_sizes, "margin": margin(), "sub_centers": 1, "block_size": 0}


def face_mhs(head_sizes=()):
    """A margin softmax over the groups of identities that occur in a batch (MHS-ArcFace)."""
    return {
        "name": "mhs",
        "head_sizes": head_sizes,
        "margin": margin(),
        "sampler": sampler("batch_union"),
        # Rows of each identity, of which the nearest counts; 3 for noisy pictures.
        "sub_centers": 1,
        "block_size": 0,
        "mask_padding": True,
    }


def face_partial(head_sizes=()):
    """A margin softmax over the identities of a batch and random others (PartialFC): groups of one identity."""
    # As published, without a correction, which at a scale of 64 moves little.
    return {**face_mhs(head_sizes or (0, 1)), "sampler": sampler("random_groups", subtract_log_q=False)}


def face_mhp(head_sizes=()):
    """A margin softmax for each digit of an identity."""
    return {
        "name": "mhp",
        "head_sizes": head_sizes,
        "margin": margin(),
        "objective": "ce_per_head",
    }


def face_mhc(head_sizes=()):
    """A margin softmax over groups of identities, and one over the members of the true group."""
    return {
        "name": "mhc",
        "head_sizes": head_sizes,
        "margin": margin(),
        "beam_width": 10,
        "mask_padding": True,
    }


# What the published face heads do otherwise.
FACE_REFERENCE = {
    "ohe": {},
    "mhs": {"mask_padding": False},
    "mhp": {"objective": "bce_per_head"},
    "mhc": {"mask_padding": False, "beam_width": 1},
}

# For `config.codes`: similar classes share digits, by the run's own features after its first two epochs.
WARM_UP = {"name": "warmup", "path": "", "epochs": 2.0}


def frequent(section, number, bottleneck=64):
    """The section of a one-hot head, of one label or of many, with a table of the whole width for `number` classes.

    The others are told apart by `bottleneck` numbers. `config.codes` has to be `FREQUENCY`, or a file in that order.
    """
    return {**section, "frequent": number, "bottleneck": bottleneck}


# For `config.codes`: the most frequent classes first.
FREQUENCY = {"name": "frequency", "path": "", "epochs": 2.0}

# For `config.table_optimizer`: the tables' own learning rate is `rate` times the schedule's.
# By the rule of all else, in the pass that makes their gradient, which is never whole: what a large table trains with.
_OWNED = {"updates": "owned", "storage": "bfloat16", "moments": "bfloat16", "rate": 1.0}
OWNED_SGD = {"name": "sgd", **_OWNED, "momentum": 0.9, "weight_decay": 0.0}
OWNED_ADAMW = {"name": "adamw", **_OWNED, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
# Without momentum they are all there is. Ten times the rate stands in the place of .9 of momentum.
OWNED_TABLES = {"name": "sgd", "updates": "owned", "storage": "bfloat16", "rate": 10.0, "weight_decay": 0.0}
SPARSE_TABLES = {"name": "adamw", "rate": 1.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
FACE_SPARSE_TABLES = {"name": "sgd", "rate": 1.0, "momentum": 0.9, "weight_decay": 5e-4}
