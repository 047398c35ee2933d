"""The report on a decoder and a recording of one's own, its receipt, and the commands around them."""

import lazy_loader

# Lazy as the front door: the command line answers `--help` without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"judging": ["judge_decoder"], "make": ["make_report"], "receipt": ["verify_receipt"]}
)
