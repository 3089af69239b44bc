"""docs/names.md is true: every documented name is where it says, called as it says."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Generic

import pytest

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "names.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| `([^`]+)` \| `([^`]+)` \| (`[^`]+`|attribute) "
    r"\| (?:`([^`]+)` \((coroutine|plain)\)|as it is) \|$",
    re.MULTILINE,
)
PLAIN = re.compile(r"<(?:built-in function |class '[\w.]*?)(\w+)'?>")
ROWS = ROW.findall(TEXT)
DOCUMENTED = """
    PubSub PubSub.add_client PubSub.remove_client PubSub.subscribe PubSub.unsubscribe
    PubSub.psubscribe PubSub.punsubscribe PubSub.publish PubSub.publish_event PubSub.count
    PubSub.channels PubSub.protocol PubSub.close store.pubsub
    Channels Channels.register Channels.unregister Channels.publish Channels.connect Channels.close
    Channels.statusType StatusType
    DistributionApplication DistributedApplication producer application start stop
    SocketProviderFactory SocketProviderFactory.from_config SocketProviderFactory.from_url
    SocketProvider MqttConfig KafkaConfig SupportedContextManagers
    socket.publish socket.subscribe socket.unsubscribe socket.request socket.reply
    MessageContract MessageContract.type MessageContract.payload MessageContract.id Message
    SignedMessage SignedMessage.sender_id MESSAGE_TYPE_CLOSED MessageQueueListener
    MessageQueueListener.start MessageQueueListener.stop MessageQueueListener.on_message
    ConnectionsFactory AbstractChannel AbstractChannel.add_listener
    AbstractChannel.register_listener AbstractChannel.remove_listener
    AbstractChannel.get_listener AbstractChannel.dispatch AbstractChannel.broadcast
    AbstractChannel.message_stream AbstractChannel.watch AbstractChannel.stream_delay_seconds
    SSEChannel SSEChannel.adapt SSEChannel.retry_timeout_milliseconds DataProcessingChannel
    DataProcessingChannel.process_queue DataProcessingChannel.adapt
    SimpleDistributedApplicationListener SimpleDistributedApplicationListener.set_action
    SimpleDistributedApplicationListener.dispatch_to
    SimpleDistributedApplicationListener.on_message SimpleDistributedApplicationChannel
    SimpleDistributedApplicationChannel.register_listener AbstractChannelRepository
    SSEChannelRepository SSEChannelRepository.create ChannelContainer ChannelContainer.register
    ChannelContainer.register_iterable ChannelContainer.get ChannelContainer.rm
    ChannelContainer.get_all_ids SocketServer SocketServer.start SocketServer.shutdown
    SocketServer.main SocketClient SocketClient.send_payload SocketClient.create_channel
    SocketClient.register SocketClient.stream SocketClient.broadcast_message
    SocketClient.dispatch SocketClient.remove_listener SocketClient.remove_channel
""".split()  # noqa: SIM905


def found(path):
    """Give what an import path leads to, and whether it is called on an instance."""
    parts = path.split(".")
    for split in range(len(parts), 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        bound = False
        for name in parts[split:]:
            bound = inspect.isclass(owner) and inspect.isfunction(
                inspect.getattr_static(owner, name, None)
            )
            owner = getattr(owner, name)
        return owner, bound
    raise AssertionError(f"{path} leads nowhere")


def signature(path):
    """Give a signature as the table has it: without `self` and without types."""
    call, bound = found(path)
    if inspect.isclass(call) and issubclass(call, Generic):  # has a `__new__` of its own on 3.8
        call, bound = call.__init__, True
    whole = inspect.signature(call)
    parameters = [own.replace(annotation=own.empty) for own in whole.parameters.values()]
    return str(whole.replace(parameters=parameters[bound:], return_annotation=whole.empty))


def test_no_name_is_missing():
    """The table has every documented name, and nothing that cannot be read."""
    assert sorted(row[0] for row in ROWS) == sorted(DOCUMENTED)
    assert len(ROWS) == sum(line.startswith("| `") for line in TEXT.splitlines())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_name(row):
    """It is there in both forms; coroutines are called as their thread-based form is."""
    _, path, shown, coroutine_path, kind = row
    if shown == "attribute":
        if "." in row[0]:  # set when one is made, or a property
            owner, name = path.rsplit(".", 1)
            assert name in vars(found(owner)[0]) or name in (found(owner)[0].__doc__ or "")
        else:
            assert found(path)[0] is not None
    else:
        assert PLAIN.sub(r"\1", signature(path)) == shown[1:-1]
    if coroutine_path:
        form = found(coroutine_path)[0]
        assert inspect.iscoroutinefunction(form) == (kind == "coroutine")
        if kind == "coroutine":
            assert f"`{signature(coroutine_path)}`" == shown
