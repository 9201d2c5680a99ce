"""``report.html``: one page that needs nothing beside it. Pure: from the data of ``report.json`` to text.

`element` writes elements and escapes everything; the other modules draw one figure each; `page` puts them together.
"""
