"""The composition root of the agent: builds the real parts from a configuration and runs the loop."""

import logging
import os
import platform
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgeferry.agent import telemetry
from edgeferry.agent.answering import Answerer, Subjects
from edgeferry.agent.bridge import Bridge
from edgeferry.agent.clock import is_synchronised, now_ms, trusted_now_ms
from edgeferry.agent.config import AgentConfig
from edgeferry.agent.connection import Connection, ConnectionSettings
from edgeferry.agent.events import Happened
from edgeferry.agent.fetching import Fetcher
from edgeferry.agent.following import Follower, wished_by
from edgeferry.agent.fsops import Disk
from edgeferry.agent.hands import ModelHands
from edgeferry.agent.inbox import Inbox, Stop
from edgeferry.agent.lanes import Lane
from edgeferry.agent.performer import Lanes, Performer
from edgeferry.agent.runner import Parts, Runner, Sampled, Settings
from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState
from edgeferry.agent.store import Store
from edgeferry.agent.supervisor import Supervisor
from edgeferry.agent.systemd import Notifier
from edgeferry.agent.trust import Missing, Resolved, TrustClient
from edgeferry.agent.voice import Voice
from edgeferry.device_profiles import RuntimePackage
from edgeferry.wire.blocks import BlockRequest
from edgeferry.wire.codec import WireError, encode
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import Code, EventKind, Info, Problem, Reason
from edgeferry.wire.topics import TopicKind, Topics

__all__ = ["run_agent"]
