"""An attention type of another distribution that can neither be causal nor look across."""

from nas.operators.attention.linear import Linear


class EncoderOnly(Linear):
    """Linear attention, kept from decoders."""

    name = "encoder_only"
    sites = frozenset({"encoder_self"})


ENCODER_ONLY = EncoderOnly()
