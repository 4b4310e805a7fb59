from html.parser import HTMLParser

import msgspec
import pytest

from mainspring.definitions import load_project
from mainspring.serving.openapi import document, page

from rides import DEFINITIONS, ride  # isort: skip


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "definitions.py"
    path.write_text(DEFINITIONS)
    return load_project(path).models


def test_every_model_has_its_request_as_the_contract_has_it(models):
    found = document(models.values(), 500)
    schema = found["components"]["schemas"]["late_ride_request"]
    assert schema["required"] == ["ride_id", "zone", "distance_km"]
    assert schema["additionalProperties"] is False
    fields = schema["properties"]
    assert fields["zone"] == {"type": "string", "enum": ["north", "south"]}
    assert (fields["distance_km"]["minimum"], fields["distance_km"]["maximum"]) == (0, 1e300)
    assert fields["driver"]["type"] == ["string", "null"]
    assert fields["asked_at"]["type"] == ["string", "null"]
    assert {f"/predict/{name}" for name in models} < set(found["paths"])
    body = found["paths"]["/predict/minutes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["anyOf"][1]["maxItems"] == 500
    msgspec.json.encode(found)


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]


def test_the_page_needs_nothing_but_itself_and_escapes_what_users_wrote(models):
    found = document(models.values(), 500)
    found["paths"]["/predict/minutes"]["post"]["description"] = "<script>alert(1)</script>"
    text = page(found)
    seen = _Links()
    seen.feed(text)
    assert "script" not in seen.tags
    assert seen.links == ["openapi.json"]
    assert "http" not in text
    assert "/predict/late_ride" in text


def test_the_gateway_serves_both_for_the_models_that_are_live(world):
    world.live()

    async def story(gateway, client):
        described = (await client.get("/openapi.json")).json
        assert "/predict/late_ride" in described["paths"]
        assert "/predict/minutes" not in described["paths"]
        shown = await client.get("/docs")
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert (await client.ask("POST", "/docs")).status == 405
        assert (await client.predict(ride())).status == 200

    world.run(story)
