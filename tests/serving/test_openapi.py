from html.parser import HTMLParser

import jsonschema
import msgspec
import pytest

from mainspring.definitions import load_project
from mainspring.serving.openapi import document
from mainspring.serving.openapi_page import page

from compositions import both_live, compose  # isort: skip
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


def judge(described, answer, model="late_ride"):
    """Hold an answer against what the document says of its status, with no field that it does not name."""
    responses = described["paths"][f"/predict/{model}"]["post"]["responses"]
    said = responses[str(answer.status)]
    schemas = {name: dict(one) for name, one in described["components"]["schemas"].items()}
    for name in ("Prediction", "Composed", "Error"):
        schemas[name]["additionalProperties"] = False
    schema = said["content"]["application/json"]["schema"] | {"components": {"schemas": schemas}}
    jsonschema.Draft202012Validator(schema).validate(answer.json)
    for header in said.get("headers", {}):
        assert int(answer.headers[header.lower()]) >= 1


def test_every_answer_of_predict_is_one_that_the_document_says(world):
    world.redefine('.alias("place")]', '.alias("place")], rules=[ms.at_most(0.0)]')
    world.redefine(
        '["distance_km", "passengers"])', '["distance_km", "passengers"], otherwise=ms.otherwise(value=1.5))'
    )
    compose(
        world, 'both = ms.ensemble("both", quick, late_ride)', 'fast = ms.cascade("fast", quick, late_ride, sure=1.0)'
    )
    world.live("minutes")
    version, careful = both_live(world)

    async def whole(gateway, client):
        described = (await client.get("/openapi.json")).json
        taken = {one["name"] for one in described["paths"]["/predict/late_ride"]["post"]["parameters"]}
        assert taken == {"status", "X-Deadline-Ms", "Content-Encoding"}
        found = []
        bodies = (ride(1), [ride(2), ride(3, distance_km="far")], [ride(3, distance_km="far")], [], ride(4, zone=7))
        for model in ("late_ride", "minutes", "both", "fast"):
            found += [(await client.predict(rows, model, query="?status=1"), model) for rows in bodies]
        found.append((await client.predict(ride(5), X_Deadline_Ms="0"), "late_ride"))
        found.append((await client.predict(ride(5), "minutes", X_Deadline_Ms="0"), "minutes"))
        found.append((await client.predict(ride(5), X_Deadline_Ms="soon"), "late_ride"))
        found.append((await client.predict(b"{", Content_Encoding="br"), "late_ride"))
        found.append((await client.predict([ride(i) for i in range(501)]), "late_ride"))
        for answer, model in found:
            judge(described, answer, model)
        assert {answer.status for answer, _ in found} == {200, 400, 413, 415, 422, 504}

    world.run(whole)
    for model, one in (("quick", version), ("late_ride", careful)):
        world.damage(model, one)

    async def broken(gateway, client):
        described = (await client.get("/openapi.json")).json
        for rows in (ride(1), [ride(2), ride(3, distance_km="far")], [ride(4)]):
            for model in ("both", "fast"):
                answer = await client.predict(rows, model)
                assert answer.status == 503
                judge(described, answer, model)

    world.run(broken)
