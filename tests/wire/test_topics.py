"""Topics: what a builder builds, the parser takes apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.wire.codec import WireError
from edgeferry.wire.topics import DEFAULT_ROOT, Topic, TopicKind, Topics, check_id, check_name, check_root

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", fullmatch=True)
ROOTS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OWN_KINDS = (
    TopicKind.AVAILABILITY,
    TopicKind.INFO,
    TopicKind.STATE,
    TopicKind.TELEMETRY,
    TopicKind.EVENT,
    TopicKind.BLOCK,
)

GOLDEN = {
    "edgeferry/v1/d/pi/availability": Topic(TopicKind.AVAILABILITY, "pi"),
    "edgeferry/v1/d/pi/info": Topic(TopicKind.INFO, "pi"),
    "edgeferry/v1/d/pi/state": Topic(TopicKind.STATE, "pi"),
    "edgeferry/v1/d/pi/telemetry": Topic(TopicKind.TELEMETRY, "pi"),
    "edgeferry/v1/d/pi/event": Topic(TopicKind.EVENT, "pi"),
    "edgeferry/v1/d/pi/blk": Topic(TopicKind.BLOCK, "pi"),
    "edgeferry/v1/d/pi/req/get": Topic(TopicKind.REQUEST, "pi", "get"),
    "edgeferry/v1/all/req/ping": Topic(TopicKind.REQUEST_ALL, "", "ping"),
    "edgeferry/v1/d/pi/res/laptop": Topic(TopicKind.RESPONSE, "pi", "laptop"),
    "edgeferry/v1/d/pi/infer/digits": Topic(TopicKind.INFER, "pi", "digits"),
    "edgeferry/v1/d/pi/infer/digits/7": Topic(TopicKind.INFER, "pi", "digits", "7"),
    "edgeferry/v1/g/north/infer/digits": Topic(TopicKind.INFER_GROUP, "north", "digits"),
    "edgeferry/v1/tuf/root.3": Topic(TopicKind.TUF_ROOT, "", "3"),
    "edgeferry/v1/tuf/timestamp": Topic(TopicKind.TUF_TIMESTAMP),
    "edgeferry/v1/blob/req/pi": Topic(TopicKind.BLOB_REQUEST, "pi"),
    "edgeferry/v1/origin/laptop/availability": Topic(TopicKind.ORIGIN, "laptop"),
}


def build(topics: Topics, topic: Topic) -> str:
    """Return the topic that the builder for its kind makes."""
    match topic.kind:
        case TopicKind.REQUEST:
            return topics.request(topic.owner, topic.name)
        case TopicKind.REQUEST_ALL:
            return topics.request_all(topic.name)
        case TopicKind.RESPONSE:
            return topics.response(topic.owner, topic.name)
        case TopicKind.INFER:
            return topics.infer(topic.owner, topic.name, topic.version)
        case TopicKind.INFER_GROUP:
            return topics.infer_group(topic.owner, topic.name)
        case TopicKind.TUF_ROOT:
            return topics.tuf_root(int(topic.name))
        case TopicKind.TUF_TIMESTAMP:
            return topics.tuf_timestamp()
        case TopicKind.BLOB_REQUEST:
            return topics.blob_request(topic.owner)
        case TopicKind.ORIGIN:
            return topics.origin(topic.owner)
        case kind:
            return topics.device(topic.owner, kind)


@st.composite
def any_topic(draw: st.DrawFn) -> Topic:
    match draw(st.sampled_from(TopicKind)):
        case TopicKind.REQUEST as kind:
            return Topic(kind, draw(IDS), draw(NAMES))
        case TopicKind.REQUEST_ALL as kind:
            return Topic(kind, "", draw(NAMES))
        case TopicKind.RESPONSE as kind:
            return Topic(kind, draw(IDS), draw(IDS))
        case TopicKind.INFER as kind:
            return Topic(kind, draw(IDS), draw(NAMES), draw(NAMES | st.just("")))
        case TopicKind.INFER_GROUP as kind:
            return Topic(kind, draw(IDS), draw(NAMES))
        case TopicKind.TUF_ROOT as kind:
            return Topic(kind, "", str(draw(st.integers(1, 999_999_999))))
        case TopicKind.TUF_TIMESTAMP as kind:
            return Topic(kind)
        case kind:
            return Topic(kind, draw(IDS))


def matches(pattern: str, topic: str) -> bool:
    """Return whether an MQTT filter matches (MQTT 5.0, section 4.7)."""
    wanted, levels = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(w in ("+", level) for w, level in zip(wanted, levels, strict=True))


def test_the_golden_topics_have_every_kind() -> None:
    assert {topic.kind for topic in GOLDEN.values()} == set(TopicKind)


@pytest.mark.parametrize("text", GOLDEN)
def test_a_topic_is_spelled_as_ever(text: str) -> None:
    assert Topics().parse(text) == GOLDEN[text]
    assert build(Topics(), GOLDEN[text]) == text


@given(topic=any_topic(), root=ROOTS)
def test_what_is_built_is_parsed_below_any_root(topic: Topic, root: str) -> None:
    topics = Topics(check_root(root))

    assert topics.parse(build(topics, topic)) == topic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "edgeferry/v1",
        "edgeferry/v1/",
        "edgeferry/v2/d/pi/info",
        "other/edgeferry/v1/d/pi/info",
        "edgeferry/v1/d",
        "edgeferry/v1/d/pi",
        "edgeferry/v1/d//info",
        "edgeferry/v1/d/p.i/info",
        "edgeferry/v1/d/pi/unknown",
        "edgeferry/v1/d/pi/info/more",
        "edgeferry/v1/d/pi/req",
        "edgeferry/v1/d/pi/req/get/more",
        "edgeferry/v1/d/pi/res/a.b",
        "edgeferry/v1/d/pi/infer",
        "edgeferry/v1/d/pi/infer/digits/7/more",
        "edgeferry/v1/d/pi/infer/..",
        "edgeferry/v1/d/pi/infer/digits/..",
        "edgeferry/v1/d/pi/infer/.digits",
        "edgeferry/v1/d/+/info",
        "edgeferry/v1/d/pi/infer/#",
        "edgeferry/v1/d/" + "p" * 65 + "/info",
        "edgeferry/v1/d/pi\n/info",
        "edgeferry/v1/g/north/infer",
        "edgeferry/v1/g/n.orth/infer/digits",
        "edgeferry/v1/all/req",
        "edgeferry/v1/blob/req/p.i",
        "edgeferry/v1/origin/lap.top/availability",
        "edgeferry/v1/origin/laptop/other",
        "edgeferry/v1/tuf/root.0",
        "edgeferry/v1/tuf/root.01",
        "edgeferry/v1/tuf/root.x",
        "edgeferry/v1/tuf/root.9999999999",
        "edgeferry/v1/tuf/snapshot",
    ],
)
def test_what_is_no_topic_of_ours_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="is not one of edgeferry/v1"):
        Topics().parse(text)


def test_an_agent_subscribes_to_what_it_is_told_and_to_nothing_else() -> None:
    filters = Topics().device_subscriptions("pi")
    heard = {text for text in GOLDEN if any(matches(pattern, text) for pattern in filters)}

    assert heard == {
        "edgeferry/v1/all/req/ping",
        "edgeferry/v1/d/pi/availability",
        "edgeferry/v1/d/pi/blk",
        "edgeferry/v1/d/pi/infer/digits",
        "edgeferry/v1/d/pi/infer/digits/7",
        "edgeferry/v1/d/pi/req/get",
        "edgeferry/v1/origin/laptop/availability",
        "edgeferry/v1/tuf/root.3",
        "edgeferry/v1/tuf/timestamp",
    }
    assert not any(matches(pattern, "edgeferry/v1/d/other/req/get") for pattern in filters)


@pytest.mark.parametrize("value", ["pi", "A-b_9", "x" * 64])
def test_an_id_may_have_letters_digits_and_dashes(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "a/b", "+", "#", "ä", "a.b", "a\n", "$a"])
def test_other_ids_are_refused_with_what_is_wanted(value: str) -> None:
    with pytest.raises(WireError, match=r"^group .* cannot stand in a topic; wanted 1 to 64 of a-z A-Z 0-9 _ -"):
        check_id(value, what="group")


@pytest.mark.parametrize("value", ["digits", "digits-2.1", "_x"])
def test_a_name_may_have_dots_inside(value: str) -> None:
    assert check_name(value) == value


@pytest.mark.parametrize("value", ["", ".", "..", ".x", "a/b", "x" * 65, "a b", "a\n"])
def test_other_names_are_refused(value: str) -> None:
    with pytest.raises(WireError, match=r"^model .* cannot stand in a topic"):
        check_name(value)


@pytest.mark.parametrize("value", [DEFAULT_ROOT, "x", "home/pi-1/v1.2"])
def test_a_root_is_one_or_more_names(value: str) -> None:
    assert check_root(value) == value


@pytest.mark.parametrize("value", ["", "/", "a/", "/a", "a//b", "a/+", "#", "$SYS", "a/../b", "a b"])
def test_other_roots_are_refused(value: str) -> None:
    with pytest.raises(WireError, match=r"^topic root .* is not usable"):
        check_root(value)


def test_the_devices_of_a_group_share_one_filter() -> None:
    assert Topics().group_subscription("kitchens") == "$share/kitchens/edgeferry/v1/g/kitchens/infer/+"
