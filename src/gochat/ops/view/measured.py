"""The view's client when there are metrics, too. Imported only then: it needs prometheus-client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..metrics import MeasuredChannel, MeasuredConn
from .client import ViewedChannel, ViewedClient, Watch

if TYPE_CHECKING:
    from ...anyhub import AnyHub
    from ...client import Settings
    from ...golang.websocket import Conn

__all__ = ["MeasuredViewedClient"]


class MeasuredViewedChannel(ViewedChannel, MeasuredChannel[bytes]):
    """A channel that can be held, and counts."""


class MeasuredViewedClient(ViewedClient):
    """A ViewedClient that counts, as a MeasuredClient does. Its conn is a MeasuredConn."""

    def __init__(self, hub: AnyHub, conn: Conn, settings: Settings, watch: Watch) -> None:
        super().__init__(hub, conn, settings, watch)
        assert isinstance(conn, MeasuredConn)
        self.send = conn.queue = MeasuredViewedChannel(settings.send_buffer, watch)
