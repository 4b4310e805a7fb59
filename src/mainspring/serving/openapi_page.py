"""The gateway's OpenAPI document as one HTML page without scripts."""

from __future__ import annotations

import html

import msgspec

from mainspring.core.secured import scopes_in
from mainspring.events.json_schema import Schema

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mainspring gateway</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430 }
summary { cursor: pointer; padding: .4rem 0 } details { border-top: 1px solid #d8dee8 }
code, pre { font: 14px/1.4 ui-monospace, monospace } pre { background: #f3f5f9; padding: .8rem; overflow: auto }
b { display: inline-block; min-width: 3.5rem } table { border-collapse: collapse; margin: .5rem 0 }
td, th { border: 1px solid #d8dee8; padding: .2rem .6rem; text-align: left; vertical-align: top }
@media (prefers-color-scheme: dark) {
  body { background: #141a22; color: #dde4ee } pre { background: #1e2631 } a { color: #8ab4f8 }
}
</style></head><body>
BODY
</body></html>
"""


def page(document: Schema) -> str:
    """The document as one HTML page that needs nothing but itself."""
    schemas = document["components"]["schemas"]
    parts = [
        f"<h1>{_e(document['info']['title'])}</h1><p>{_e(document['info']['description'])}</p>",
        "<p>Version " + _e(document["info"]["version"]) + ' · <a href="openapi.json">openapi.json</a></p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_section(path, method, operation, schemas))
    return _PAGE.replace("BODY", "\n".join(parts))


def _section(path: str, method: str, operation: Schema, schemas: Schema) -> str:
    parts = [f"<details><summary><b>{method.upper()}</b> <code>{_e(path)}</code> {_e(operation['summary'])}</summary>"]
    if operation.get("description"):
        parts.append(f"<p>{_e(operation['description'])}</p>")
    if "security" in operation:
        scopes = " or ".join(scopes_in(operation))
        parts.append(f"<p>{_e(f'Needs a key for {scopes}.' if scopes else 'Needs no key.')}</p>")
    body = operation.get("requestBody")
    if body is not None:
        schema = body["content"]["application/json"]["schema"]
        row = schema["anyOf"][0] if "anyOf" in schema else schema
        named = schemas[row["$ref"].rpartition("/")[2]]
        parts.append(_table(named))
    if operation.get("parameters"):
        parts.append("<table><tr><th>parameter<th>in<th>is</tr>")
        for one in operation["parameters"]:
            shown = msgspec.json.encode(one["schema"]).decode()
            parts.append(f"<tr><td><code>{_e(one['name'])}</code><td>{_e(one['in'])}<td>{_e(one['description'])}: ")
            parts.append(f"<code>{_e(shown)}</code></tr>")
        parts.append("</table>")
    parts.append("<table><tr><th>status<th>means</tr>")
    parts += [f"<tr><td>{status}<td>{_e(one['description'])}</tr>" for status, one in operation["responses"].items()]
    parts.append("</table></details>")
    return "".join(parts)


def _table(schema: Schema) -> str:
    rows = ["<table><tr><th>field<th>must be there<th>is</tr>"]
    for name, field in schema["properties"].items():
        needed = "yes" if name in schema.get("required", ()) else ""
        shown = msgspec.json.encode(field).decode()
        rows.append(f"<tr><td><code>{_e(name)}</code><td>{needed}<td><code>{_e(shown)}</code></tr>")
    return "".join([*rows, "</table>"])


def _e(text: str) -> str:
    return html.escape(text)
