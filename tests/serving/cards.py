"""A project of cards and shops in a folder: it lives, is trained, released and asked as a user's is."""

import contextlib

import numpy as np
import uvloop
from rides import Client

from mainspring.catalog import Catalog
from mainspring.core.clock import ManualClock
from mainspring.core.config import load_config
from mainspring.core.times import parse_time
from mainspring.definitions import load_project
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.intake import Intake
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.system import DECISION
from mainspring.features import Folder, OnlineStore
from mainspring.loop.ledger import decision_row
from mainspring.serving.gateway import Gateway
from mainspring.training import build, sources_of, train

DEFINITIONS = """
from datetime import datetime

from lightgbm import LGBMClassifier

import mainspring as ms
from mainspring import col, when


class Paid(ms.Source, id="payment_id", time="paid_at"):
    payment_id: str
    card: str
    shop: str
    amount: float | None
    paid_at: datetime


class Asked(ms.Source, id="payment_id", time="asked_at"):
    payment_id: str
    card: str
    shop: str
    amount: float
    opened_at: datetime | None
    asked_at: datetime


class Fraud(ms.Source, id="payment_id", time="found_at"):
    payment_id: str
    is_fraud: bool
    found_at: datetime


@ms.feature_view(Paid, entity="card")
class Card:
    sum_1h = ms.sum("amount", window="1h")
    sum_24h = ms.sum("amount", window="24h")
    count_24h = ms.count(window="24h")
    last_at = ms.last("paid_at")
    last_shop = ms.last("shop", ttl="2h")
    shops = ms.top_k("shop", 2, window="24h")
    amounts = ms.last_k("amount", 3)
    median_24h = ms.quantile("amount", 0.5, window="24h")
    smooth = ms.ewma("amount", half_life="3h")
    share = col("sum_1h") / col("sum_24h")
    since_s = ms.time_since("last_at")
    step = col("amounts_1") - col("amounts_2")
    against_median = col("amounts_1") / col("median_24h")
    is_loyal = col("shops_1") == col("last_shop")
    busy = (col("count_24h") > 3) & (col("share").fill_null(0) > 0.5)


@ms.feature_view(Paid, entity="shop")
class Shop:
    mean_24h = ms.mean("amount", window="24h")
    spread_24h = ms.std("amount", window="24h")


fraud = ms.label(Fraud, on="payment_id", value="is_fraud", within="1d", otherwise=False)


@ms.model(
    request=Asked,
    label=fraud,
    task="binary_classification",
    features=[
        Card,
        "amount",
        "shop",
        (col("amount") / Shop.col("mean_24h")).alias("relative"),
        ((Card.col("share") - col("amount") / Shop.col("mean_24h")).abs()).alias("odd"),
        (Card.col("last_shop") == col("shop")).alias("same_shop"),
        (Card.col("last_shop") + ">" + col("shop")).alias("moved"),
        (Card.col("smooth") - Shop.col("mean_24h")).alias("smooth_diff"),
        ms.time_since("opened_at").alias("open_s"),
        ms.time_since(Card.col("last_at")).log1p().alias("log_since"),
        col("asked_at").dt.hour().alias("hour"),
        when(Shop.col("mean_24h").is_null()).then(None).otherwise(col("shop").str.to_uppercase()).alias("known_shop"),
        col("shop").str.reverse().alias("reversed"),
    ],
    using=[Shop],
)
def fraudulent(train):
    return LGBMClassifier(n_estimators=8, num_leaves=7, min_child_samples=5, random_state=train.seed, verbose=-1).fit(
        train.X, train.y
    )
"""
T0 = parse_time("2026-03-01T00:00:00")
MINUTE = 60_000_000
HOUR = 60 * MINUTE
SHOPS = ["pub", "bar", "inn"]


class World:
    """A project in a folder, whose log is written by hand until a gateway serves."""

    def __init__(self, root, definitions=DEFINITIONS):
        (root / "definitions.py").write_text(definitions)
        (root / "mainspring.toml").write_text(
            '[project]\nname = "cards"\n[gateway]\nport = 0\n[intake]\nport = 0\n'
            "[limits]\nlog_map_bytes = 67108864\nstate_map_bytes = 67108864\n"
        )
        self.root = root
        self.config = load_config(root)
        self.project = load_project(self.config.definitions)
        self.model = self.project.models["fraudulent"]
        self.clock = ManualClock(T0)
        self.random = np.random.default_rng(5)

    @contextlib.contextmanager
    def log(self, *, writable=False):
        with Log.open(self.config.log_path, self.config.limits.log_map_bytes, writable=writable) as log:
            yield log

    def add(self, log, source, at_us, **fields):
        self.clock.set(max(at_us, self.clock.now_us()))
        definition = self.project.sources.get(source, DECISION)
        (ack,) = log.append([Draft(definition, Contract(definition).check(fields))], self.clock)
        assert ack.status == "accepted", ack.reason

    def live(self, payments=500):
        """Payments, each asked about a minute before and judged an hour later, in the order of time."""
        told = []
        for i in range(payments):
            at = T0 + int(i * 7 * MINUTE + self.random.integers(0, MINUTE))
            card, shop = f"c{self.random.integers(0, 6)}", SHOPS[self.random.integers(0, 3)]
            amount = float(np.round(self.random.gamma(2, 20), 2))
            opened = None if i % 7 == 0 else at - int(self.random.integers(1, 900)) * 1_000_000
            asked = {"payment_id": f"p{i}", "card": card, "shop": shop, "amount": amount, "asked_at": at}
            told.append((at, "asked", asked | {"opened_at": opened}))
            paid = {"payment_id": f"p{i}", "card": card, "shop": shop, "paid_at": at + MINUTE}
            told.append((at + MINUTE, "paid", paid | {"amount": None if i % 11 == 0 else amount}))
            found = {"payment_id": f"p{i}", "is_fraud": bool(amount > 50), "found_at": at + HOUR}
            told.append((at + HOUR, "fraud", found))
        with self.log(writable=True) as log:
            for at, source, fields in sorted(told, key=lambda one: one[0]):
                self.add(log, source, at, **fields)

    def dataset(self, now_us, **more):
        with self.history() as history:
            frames = {name: history.frame(name) for name in sources_of(self.model)}
        return build(self.model, frames, self.config.datasets, now_us=now_us, **more)

    def train(self):
        """A release of the model as its history is."""
        dataset = self.dataset(self.clock.now_us() + 2 * 24 * HOUR)
        candidate = train(self.model, dataset, self.config.packages, now_us=self.clock.now_us())
        self.release(candidate)
        self.fold()
        return candidate

    @contextlib.contextmanager
    def history(self):
        with self.log() as log:
            history = History(self.project, log, Lake(self.config.lake_path))
            history.catch_up()
            yield history

    def release(self, candidate):
        numbers = {
            "version": candidate.version,
            "path": str(candidate.path),
            "definition": self.model.version,
            "view_versions": {view.name: view.version for view in self.model.views},
        }
        told = [("apply", self.project.describe()), ("version", numbers), ("release", numbers)]
        with self.log(writable=True) as log, Catalog.open(self.config.catalog_url) as catalog:
            for kind, content in told:
                row = decision_row(kind, f"{kind}-1", self.clock.now_us(), "fraudulent", None, "ann", "", content)
                self.add(log, "_decision", self.clock.now_us(), **row)
                catalog.project([(log.last_offset(), row)])

    def fold(self):
        views = list(self.model.views)
        with (
            OnlineStore.open(self.config.state_path, self.config.limits.state_map_bytes, writable=True) as store,
            self.log() as log,
        ):
            Folder(views, store).fold(list(log.read(0)))

    def serve(self, *bodies):
        """Ask a gateway; its answers, and what it logged of them."""

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                intake = Intake(self.config, self.project, self.clock)
                await intake.start()
                stack.push_async_callback(intake.stop)
                gateway = Gateway(self.config, self.project, self.clock)
                await gateway.start()
                stack.push_async_callback(gateway.stop, 5)
                client = await stack.enter_async_context(Client(gateway.url))
                return [await client.predict(body, "fraudulent", "?status=1") for body in bodies]

        answers = uvloop.run(main())
        with self.history() as history:
            return answers, history.frame("_prediction")
