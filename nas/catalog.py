"""Every named part of etnas: one line a part, strings only, so a spec is checked without torch."""

from nas.registry import Registry

ATTENTIONS = Registry(
    "attention",
    {
        "softmax": "nas.operators.attention.softmax:SOFTMAX",
        "cosformer": "nas.operators.attention.cosformer:COSFORMER",
        "linear": "nas.operators.attention.linear:LINEAR",
        "softmax_relpos": "nas.operators.attention.relpos:SOFTMAX_RELPOS",
    },
)
FFNS = Registry("ffn", {"mlp": "nas.operators.ffn.mlp:MLP"})
NORMS = Registry(
    "norm",
    {
        "layernorm": "nas.operators.norm.layernorm:LAYERNORM",
        "rmsnorm": "nas.operators.norm.rmsnorm:RMSNORM",
    },
)
TASKS = Registry(
    "task",
    {
        "digits": "nas.task.image_classification:DIGITS",
        "cifar10": "nas.task.image_classification:CIFAR10",
        "image_folder": "nas.task.image_classification:IMAGE_FOLDER",
        "wmt14_en_de": "nas.task.translation:WMT14_EN_DE",
        "multi30k_en_de": "nas.task.translation:MULTI30K_EN_DE",
        "parallel_text": "nas.task.translation:PARALLEL_TEXT",
        "fairseq_data": "nas.task.fairseq_data:FAIRSEQ_DATA",
        "numbers_en_de": "nas.task.numbers:NUMBERS_EN_DE",
        "nas_bench_bert": "nas.task.tabled:NAS_BENCH_BERT",
    },
)
COSTS = Registry(
    "cost",
    {
        "params": "nas.cost.analytic:PARAMS",
        "flops": "nas.cost.analytic:FLOPS",
        "activation_bytes": "nas.cost.analytic:ACTIVATION_BYTES",
        "latency_ms": "nas.cost.latency:LATENCY",
    },
)
STRATEGIES = Registry(
    "strategy",
    {
        "random": "nas.strategy.random:RandomSearch",
        "evolution": "nas.strategy.evolution:Evolution",
        "ranked": "nas.strategy.ranked:Ranked",
        "optuna": "nas.strategy.optuna:Optuna",
    },
)
EXECUTORS = Registry(
    "executor",
    {
        "local": "nas.run.executor:LocalExecutor",
        "ray": "nas.run.ray_tune:RayExecutor",
    },
)
