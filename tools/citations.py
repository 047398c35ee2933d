"""A Sphinx extension that lets pybtex look its styles up once.

It looks them up at every citation, four of them, and each time reads the metadata of all packages that are installed: a
sixth of the processor time of Sphinx on this book. A style that is registered is found without.
"""

from pybtex.plugin import find_plugin, register_plugin

STYLES = {"formatting": "alpha", "names": "plain", "labels": "alpha", "sorting": "author_year_title"}


def setup(app):
    """Register the styles that a footnote's citation asks for."""
    for kind, name in STYLES.items():
        group = f"pybtex.style.{kind}"
        register_plugin(group, name, find_plugin(group, name), force=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
