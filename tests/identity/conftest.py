"""A graph and a resolver for each test."""

from __future__ import annotations

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from stores.database import Stores
from stores.graph import Graph


@pytest.fixture
def graph(stores: Stores) -> Graph:
    return Graph(stores)


@pytest.fixture
def resolver(graph: Graph) -> Resolver:
    return Resolver(graph, load_rules())
