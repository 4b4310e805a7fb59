"""``mainspring.toml``: what it may say, and where things are when it says nothing."""

import pytest

from mainspring.core.config import FILE_NAME, load_config
from mainspring.core.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "mainspring.toml").write_text(text)
        return tmp_path

    return write


def test_a_name_is_enough(written):
    root = written('[project]\nname = "flights"\n')
    config = load_config(root)
    assert config.definitions == root / "definitions.py"
    assert config.log_path == root / ".mainspring" / "log"
    assert config.state_path == root / ".mainspring" / "state"
    assert config.lake_path == root / ".mainspring" / "lake"
    assert config.run == root / ".mainspring" / "run"
    assert config.catalog_url == f"sqlite:///{root}/.mainspring/catalog.db"
    assert config.tracking_url.startswith("sqlite:///")
    assert config.pipelines_url != config.tracking_url != config.catalog_url
    assert (config.intake.host, config.gateway.host) == ("127.0.0.1", "127.0.0.1")


def test_urls_and_doors_may_be_set(written):
    root = written(
        '[project]\nname = "a"\nhome = "store"\n[urls]\nlog = "lmdb:events"\nlake = "file:deep/lake"\n'
        'catalog = "sqlite:////elsewhere/c.db"\n[gateway]\nport = 0\n[limits]\nlog_keep = "2d"\n'
    )
    config = load_config(root)
    assert config.log_path == root / "events"
    assert config.lake_path == root / "deep" / "lake"
    assert config.state_path == root / "store" / "state"
    assert config.catalog_url == "sqlite:////elsewhere/c.db"
    assert (config.gateway.port, config.limits.log_keep) == (0, "2d")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "MS-C003: mainspring.toml cannot be read"),
        ("[project]\nname = 3\n", "Expected `str`, got `int` - at `$.project.name`"),
        ('[project]\nname = "a"\ncolour = "red"\n', "unknown field `colour`"),
        ('[project]\nname = "a"\n[doors]\n', "unknown field `doors`"),
        ('[project]\nname = "a"\n[gateway]\nport = "http"\n', "Expected `int`, got `str` - at `$.gateway.port`"),
        ('[project]\nname = "a"\n[gateway]\nport = 70000\n', "Expected `int` <= 65535 - at `$.gateway.port`"),
        ('[project]\nname = "a"\n[gateway]\ngrpc = 65536\n', "Expected `int` <= 65535 - at `$.gateway.grpc`"),
        ('[project]\nname = "a"\n[intake]\nport = -1\n', "Expected `int` >= 0 - at `$.intake.port`"),
        ('[project]\nname = "a"\n[worker]\nport = 70000\n', "Expected `int` <= 65535 - at `$.worker.port`"),
        ('[project]\nname = "a"\n[traces]\nendpoint = "ftp://x"\n', "MS-C004: traces.endpoint = 'ftp://x' is no http"),
        ('[project]\nname = "a"\n[traces]\nendpoint = "x:4318"\n', "MS-C004: traces.endpoint = 'x:4318'"),
        ('[project]\nname = "a"\n[limits]\nreplay_memory_bytes = 1000\n', "at `$.limits.replay_memory_bytes`"),
        ('[project\nname = "a"\n', "MS-C003"),
        ('[project]\nname = "My Project"\n', "MS-C001: 'My Project' is not a project name"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(written, text, words):
    with pytest.raises(ConfigError) as caught:
        load_config(written(text))
    assert words in str(caught.value)


@pytest.mark.parametrize("door", ["intake", "gateway", "worker"])
@pytest.mark.parametrize(
    ("host", "hint"),
    [
        ("", '"0.0.0.0" or "::" for all of its addresses'),
        (" ", 'host = "127.0.0.1" for this machine alone'),
        ("[::1]", 'host = "::1"'),
        (" 127.0.0.1", 'host = "127.0.0.1"'),
        ("127.0.0.1:99", 'host = "127.0.0.1" and port = 99'),
        ("[::1]:7070", 'host = "::1" and port = 7070'),
        ("256.1.1.1", "for this machine alone"),
        ("http://ml.example.com", "for this machine alone"),
        ("a..b", "for this machine alone"),
        ("a" * 64, "for this machine alone"),
    ],
)
def test_a_host_that_is_neither_an_address_nor_a_name_is_refused_with_what_may_be_meant(written, door, host, hint):
    with pytest.raises(ConfigError, match=rf"MS-C004: {door}\.host = .* is neither an address nor") as caught:
        load_config(written(f'[project]\nname = "a"\n[{door}]\nhost = "{host}"\n'))
    assert hint in caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost", "ml.example.com", "my_container", "4u"])
def test_addresses_and_names_of_hosts_are_taken(written, host):
    assert load_config(written(f'[project]\nname = "a"\n[gateway]\nhost = "{host}"\n')).gateway.host == host


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "mainspring.toml").write_bytes(b"[project]\nname = \xff\n")
    with pytest.raises(ConfigError, match="MS-C003"):
        load_config(tmp_path)


def test_a_folder_without_a_project_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"MS-C002: no mainspring\.toml here") as caught:
        load_config(tmp_path)
    assert "mainspring init" in caught.value.hint


@pytest.mark.parametrize(
    ("port", "url"), [("log", "kafka://broker:9092"), ("online", "redis://h"), ("lake", "s3://b/x")]
)
def test_a_store_of_a_later_release_is_refused_by_name(written, port, url):
    config = load_config(written(f'[project]\nname = "a"\n[urls]\n{port} = "{url}"\n'))
    with pytest.raises(ConfigError, match=f"MS-C004: urls.{port} = '{url}' names a store"):
        {"log": lambda: config.log_path, "online": lambda: config.state_path, "lake": lambda: config.lake_path}[port]()


@pytest.mark.parametrize(("named", "read"), [("kept.db", "{root}/kept.db"), ("/srv/kept.db", "/srv/kept.db")])
def test_the_catalogs_file_is_relative_to_the_project(tmp_path, named, read):
    (tmp_path / FILE_NAME).write_text(f'[project]\nname = "p"\n[urls]\ncatalog = "sqlite:///{named}"\n')
    assert load_config(tmp_path).catalog_url == "sqlite:///" + read.format(root=tmp_path)


def test_paths_in_the_home_are_written_down_so_that_the_project_may_be_moved(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / FILE_NAME).write_text('[project]\nname = "p"\n')
    before = load_config(tmp_path / "old")
    stored = before.stored(before.packages / "late" / "abc")
    (tmp_path / "old").rename(tmp_path / "new")
    after = load_config(tmp_path / "new")
    assert after.located(stored) == after.packages / "late" / "abc"


def test_tables_of_connectors_are_kept_as_they_are_written(written):
    root = written('[project]\nname = "a"\n[connect.rides]\nkind = "files"\nurl = "${HOME}/*.csv"\nbatch = 5\n')
    assert load_config(root).connect == {"rides": {"kind": "files", "url": "${HOME}/*.csv", "batch": 5}}
    with pytest.raises(ConfigError, match="MS-C001"):
        load_config(written('[project]\nname = "a"\n[connect.Rides]\nkind = "files"\n'))
