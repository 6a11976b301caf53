//! The rooms of the crates, lowest first: a line imports only from the lines before it, and the names of one
//! line do not import each other. `mod` is the file `mod.rs` of a room.

/// The rooms of `meta-core`.
pub const CORE: &[&str] = &[
    "error",
    "device files processes settings stats",
    "calibration",
    "data primitives",
    "params",
    "optim rl task",
    "backend nn",
    "learner",
    "train",
    "gradcheck",
    "toolkit",
    "acting_conformance conformance",
];

/// The rooms of a folder of a crate.
pub struct Rooms {
    /// The crate's folder.
    pub package: &'static str,
    /// The module; empty for the root.
    pub folder: &'static str,
    /// The rooms, lowest first.
    pub lines: &'static [&'static str],
}

const fn rooms(
    package: &'static str,
    folder: &'static str,
    lines: &'static [&'static str],
) -> Rooms {
    Rooms {
        package,
        folder,
        lines,
    }
}

/// The rooms of every crate, and those inside them.
pub const ROOMS: &[Rooms] = &[
    rooms(
        "meta-core/kernels",
        "",
        &[
            "forms parallel real matrix",
            "buffers draws testing",
            "blocks",
            "tile",
            "gemm",
            "columns logistic pairs pool rng rows sgd_step softmax tanh",
            "linear relu standardize",
            "conv2d layer recurrence standardize_pool",
        ],
    ),
    rooms("meta-core", "", CORE),
    rooms(
        "meta-core",
        "data",
        &[
            "episode",
            "cholesky pairs rows",
            "source",
            "draw",
            "class_folders contact_sheet formats image_archive image_decode pictures prefetch",
            "image_files image_set",
            "class_splits image_cache",
            "glyphs sinusoid gp prior grammar tables omniglot folder features topics text series scan audio",
            "forecast projected preparation",
            "own_items",
            "mod",
        ],
    ),
    rooms(
        "meta-core",
        "data::formats",
        &[
            "array unpacked",
            "archive table tar",
            "csv numpy parquet pytorch safetensors without_parquet",
            "mod",
        ],
    ),
    rooms(
        "meta-core",
        "data::prior",
        &["problem", "columns", "mod", "tests"],
    ),
    rooms("meta-core", "data::grammar", &["language", "mod", "tests"]),
    rooms(
        "meta-core",
        "data::tables",
        &["column", "table", "own", "mod", "tests"],
    ),
    rooms(
        "meta-core",
        "data::features",
        &["checked settings", "set", "synthetic", "mod"],
    ),
    rooms(
        "meta-core",
        "rl",
        &[
            "distributions gittins planning returns space",
            "policy",
            "bandit_policies environment",
            "rollout source tabular_policies",
            "trial",
            "bandit cart_pole dark_room navigation tabular",
            "reference",
            "mod",
            "tests",
        ],
    ),
    rooms(
        "meta-core",
        "data::text",
        &[
            "subwords tokens without_subwords",
            "settings",
            "read vectors",
            "corpus",
            "mod",
        ],
    ),
    rooms("meta-core", "data::series", &["settings", "read", "mod"]),
    rooms("meta-core", "data::text::vectors", &["cache", "mod"]),
    rooms("meta-core", "data::audio", &["decode mel tones", "mod"]),
    rooms(
        "meta-core",
        "nn",
        &[
            "activation attention_map init loss solve",
            "pass",
            "conv distance dropout linear norm",
            "attention feed_forward modulation recurrent temporal",
            "past",
            "encoder",
        ],
    ),
    rooms(
        "meta-core",
        "primitives",
        &["operation", "mod", "ops", "portable", "autodiff cpu"],
    ),
    rooms(
        "meta-core",
        "learner",
        &[
            "embed predictive sentences support_descent support_order tokens",
            "feature_transform network",
            "mod",
            "acting adapt feature_rule single_pass",
            "generated_start host_task inner_loop",
            "partial",
        ],
    ),
    rooms(
        "meta-core",
        "learner::acting",
        &["histories memory ppo trpo", "baseline policy", "mod"],
    ),
    rooms(
        "meta-core",
        "train",
        &[
            "instances",
            "checkpoint_file corruption eval task_selection",
            "answer",
            "outsiders",
            "settings",
            "state",
            "observer shared",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "",
        &[
            "failure machine",
            "command output",
            "manifest",
            "experiment",
            "run",
            "finished explain gradcheck bench",
            "use_trained",
            "export sweep",
            "docs watch",
            "list contact_sheet init shell untrusted",
            "cli",
        ],
    ),
    rooms(
        "meta-bench",
        "output",
        &[
            "pace protobuf status_line target text units",
            "drawing event_file",
            "chart progress table",
            "figure",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "manifest",
        &[
            "origin settings text",
            "layer",
            "entries base",
            "choices",
            "mod",
            "args",
        ],
    ),
    rooms(
        "meta-bench",
        "experiment",
        &[
            "graph_size initial subprocess",
            "mod",
            "memory trial",
            "check",
        ],
    ),
    rooms(
        "meta-bench",
        "run",
        &[
            "calibration curve folder memory_limit spent tail",
            "checksums interrupt state record together",
            "result",
            "evaluations events",
            "metrics",
            "elsewhere follow",
            "eval",
            "earlier predictions regret session",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "finished",
        &[
            "baseline changed metrics store",
            "results runs diff compare ledger plot_run plot_setting",
            "plot_many",
            "export plot report",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "finished::compare",
        &["measure", "groups", "by_set differences", "table", "mod"],
    ),
    rooms(
        "meta-bench",
        "finished::export",
        &["parquet rows", "tensorboard", "mod"],
    ),
    rooms(
        "meta-bench",
        "finished::report",
        &[
            "charts importance page references words",
            "single",
            "many",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "explain",
        &[
            "maps space stream",
            "episode_view mask pictures",
            "deletion episode_pictures explained heatmap",
            "sequences sentences",
            "acting curves map_pictures numbers",
            "own",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "output::drawing",
        &["outlines style", "mod", "canvas pdf png", "svg"],
    ),
    rooms(
        "meta-bench",
        "gradcheck",
        &["checks", "cases", "learners", "mod equivalence"],
    ),
    rooms(
        "meta-bench",
        "bench",
        &[
            "args table trials",
            "workloads",
            "flops",
            "measure",
            "process report",
            "export history batches scaling launches messages",
            "peers",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "sweep",
        &[
            "sourced task",
            "live ranges trials",
            "spec",
            "expand",
            "plan",
            "selection local",
            "runs worker",
            "search",
            "prepare",
            "halving tpe slurm serve",
            "status",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "use_trained",
        &[
            "answer fitted",
            "table_file trained",
            "session",
            "args render",
            "calibrate embed predict",
            "export fit serve",
            "mod",
        ],
    ),
    rooms(
        "meta-bench",
        "watch",
        &["view", "screen sources", "terminal", "mod"],
    ),
    rooms(
        "meta-bench",
        "use_trained::export",
        &["weights", "onnx_model", "onnx safetensors", "mod"],
    ),
    rooms(
        "meta-bench",
        "use_trained::serve",
        &[
            "counts fault limits",
            "queue upload",
            "http",
            "mod",
            "start",
        ],
    ),
    rooms("meta-bench", "docs", &["learners manifest searches", "mod"]),
];
