"""JSON-RPC: answers, errors, subscriptions and storage queries, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from localnet_kit import TAO, Driver, key, sign

from template.localnet.codec import Enum, load_codecs
from template.localnet.hashing import twox_128
from template.localnet.session import MAX_BATCH, MAX_SUBSCRIPTIONS, Session
from template.localnet.storage import entries


class Client:
    """A session with ids and JSON taken care of."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.session = Session(driver.chain)
        self.pushed: list[dict[str, Any]] = []

    def raw(self, method: str, *params: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer, *rest = [json.loads(text) for text in self.session.handle(json.dumps(request))]
        self.pushed += rest
        assert answer["id"] == 1
        return dict(answer)

    def call(self, method: str, *params: Any) -> Any:
        answer = self.raw(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, *params: Any) -> int:
        return int(self.raw(method, *params)["error"]["code"])

    def block(self) -> list[dict[str, Any]]:
        self.driver.block()
        return [json.loads(text) for text in self.session.on_block(self.driver.chain.head)]


@pytest.fixture
def client() -> Client:
    return Client(Driver())


def entry(name: str) -> Any:
    return next(item for item in entries().values() if item.name == name)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", -32700),
        ("[" * 100_000, -32700),
        ("\udcff", -32700),
        (b"\xff\xfe\xfd", -32700),
        ("[]", -32600),
        ("7", -32600),
        ("null", -32600),
        ('"chain_getHead"', -32600),
        ('{"id": 1}', -32600),
        ('{"id": 1, "method": 5}', -32600),
        ('{"id": {}, "method": "chain_getHead"}', -32600),
        ('{"id": 1, "method": "chain_getHead", "params": {"a": 1}}', -32602),
        ('{"id": 1, "method": "no_such"}', -32601),
        ('{"id": 1, "method": "state_getStorage", "params": ["xyz"]}', -32602),
        ('{"id": 1, "method": "state_getStorage", "params": [["0x"]]}', -32602),
        ('{"id": 1, "method": "chain_getBlockHash", "params": ["seven"]}', -32602),
        ('{"id": 1, "method": "state_getKeysPaged", "params": ["0x", 10]}', 4003),
        ('{"id": 1, "method": "state_getKeysPaged", "params": ["0x", 1e9]}', -32602),
        ('{"id": 1, "method": "account_nextIndex", "params": ["nobody"]}', -32602),
        ('{"id": 1, "method": "author_submitExtrinsic", "params": ["0x00"]}', 1002),
        ('{"id": 1, "method": "state_subscribeStorage", "params": [[1]]}', -32602),
    ],
)
def test_malformed_requests_get_an_error(client: Client, text: str | bytes, code: int) -> None:
    (answer,) = [json.loads(item) for item in client.session.handle(text)]
    assert answer["error"]["code"] == code
    assert client.call("system_chainType") == "Local", "the session goes on"


def test_batch_with_too_long_an_answer_is_refused(client: Client) -> None:
    batch = [{"jsonrpc": "2.0", "id": 1, "method": "state_getMetadata"}] * MAX_BATCH
    (text,) = client.session.handle(json.dumps(batch))
    assert json.loads(text)["error"]["code"] == -32008
    assert client.call("system_health")["peers"] == 0


def test_batch_answers_each(client: Client) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "system_name"},
        {"jsonrpc": "2.0", "id": "x", "method": "no_such"},
        {"jsonrpc": "2.0", "method": "system_name"},
    ]
    (text,) = client.session.handle(json.dumps(batch))
    answers = json.loads(text)
    assert [answer["id"] for answer in answers] == [1, "x"], "a notification has no answer"
    assert answers[1]["error"]["code"] == -32601


def test_unknown_runtime_api_is_a_clear_error(client: Client) -> None:
    error = client.raw("state_call", "FooApi_bar", "0x")["error"]
    assert "runtime API FooApi_bar is not served by this chain" in error["message"]
    assert client.error("state_call", "NeuronInfoRuntimeApi_get_neurons", "0x01") == 4003


def test_blocks_and_headers(client: Client) -> None:
    client.driver.block(3)
    head = client.call("chain_getHead")
    header = client.call("chain_getHeader", head)
    assert int(header["number"], 16) == 3
    assert header["parentHash"] == client.call("chain_getBlockHash", 2)
    assert client.call("chain_getBlockHash", "0x3") == head
    assert client.call("chain_getBlockHash", 99) is None
    assert client.call("chain_getBlockHash", [0, 99]) == [client.call("chain_getBlockHash", 0), None]
    assert len(client.call("chain_getBlock")["block"]["extrinsics"]) == 1
    assert client.call("chain_getBlock", "0x" + "00" * 32) is None
    assert client.error("state_getStorage", "0x00", "0x" + "00" * 32) == 4003


def test_storage_reads_and_key_pages(client: Client) -> None:
    account = entry("System.Account")
    alice = client.driver.alice.public_key
    raw = client.call("state_getStorage", "0x" + account.encode_key((alice,)).hex())
    assert load_codecs().decode("AccountInfo", bytes.fromhex(raw[2:]))["data"]["free"] == 10**6 * TAO
    assert client.call("state_getStorage", "0x" + account.encode_key((b"\x01" * 32,)).hex()) is None
    prefix = "0x" + account.prefix.hex()
    everything = client.call("state_getKeys", prefix)
    first = client.call("state_getKeysPaged", prefix, 4, prefix)
    rest = client.call("state_getKeysPaged", prefix, 1000, first[-1])
    assert first + rest == everything and len(everything) == 6
    unknown = "0x" + (twox_128(b"Foo") + twox_128(b"Bar")).hex()
    assert client.call("state_getKeys", unknown) == []
    assert client.call("state_getStorage", unknown) is None
    assert client.error("state_getStorage", prefix + "00") == 4003


def test_every_declared_entry_reads_and_lists(client: Client) -> None:
    """Views agree with their declared types: each existing key reads back and decodes."""
    driver = client.driver
    driver.subnet()
    driver.member("//Member", tao=5)
    driver.to_epoch()
    codecs = load_codecs()
    listed = 0
    for item in entries().values():
        prefix = "0x" + item.prefix.hex()
        for text in client.call("state_getKeys", prefix):
            value = client.call("state_getStorage", text)
            assert value is not None, item.name
            codecs.decode(item.definition.value, bytes.fromhex(value[2:]))
            assert item.encode_key(item.decode_key(bytes.fromhex(text[2:]))).hex() == text[2:]
            listed += 1
    assert listed > 150


def test_heads_are_pushed_until_unsubscribed(client: Client) -> None:
    number = client.call("chain_subscribeNewHeads")
    assert client.pushed[0]["params"]["subscription"] == number, "the current head comes first"
    (push,) = client.block()
    assert push["method"] == "chain_newHead"
    assert int(push["params"]["result"]["number"], 16) == 1
    assert client.call("chain_unsubscribeNewHeads", number) is True
    assert client.call("chain_unsubscribeNewHeads", number) is False
    assert client.block() == []


def test_submitted_extrinsic_is_watched_to_finality(client: Client) -> None:
    bob, carol = key("//Bob"), key("//Carol").public_key
    args = {"dest": Enum("Id", carol), "value": TAO}
    raw = sign(client.driver.chain, bob, "Balances.transfer_keep_alive", args)
    number = client.call("author_submitAndWatchExtrinsic", "0x" + raw.hex())
    assert client.pushed[0]["params"] == {"subscription": number, "result": "ready"}
    assert client.call("author_pendingExtrinsics") == ["0x" + raw.hex()]
    updates = [push["params"]["result"] for push in client.block()]
    head = client.call("chain_getHead")
    assert updates == [{"inBlock": head}, {"finalized": head}]
    assert client.error("author_submitAndWatchExtrinsic", "0x" + raw.hex()) == 1010
    assert client.block() == [], "a refused one is not watched"


def test_storage_subscription_reports_changes_only(client: Client) -> None:
    number_key = "0x" + entry("System.Number").encode_key(()).hex()
    sudo_key = "0x" + entry("Sudo.Key").encode_key(()).hex()
    client.call("state_subscribeStorage", [number_key, sudo_key])
    assert len(client.pushed[0]["params"]["result"]["changes"]) == 2
    (push,) = client.block()
    assert push["params"]["result"]["changes"] == [[number_key, "0x01000000"]]


def test_unreadable_storage_key_is_not_watched(client: Client) -> None:
    account = "0x" + entry("System.Account").prefix.hex() + "00"
    assert client.error("state_subscribeStorage", [account]) == 4003
    assert client.block() == []


def test_subscriptions_are_bounded(client: Client) -> None:
    for _ in range(MAX_SUBSCRIPTIONS):
        client.call("chain_subscribeNewHeads")
    assert client.error("chain_subscribeNewHeads") == -32006


def test_listed_methods_are_served(client: Client) -> None:
    for name in client.call("rpc_methods")["methods"]:
        assert client.raw(name).get("error", {}).get("code") not in (-32601, -32603), name
