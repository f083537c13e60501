"""A tiny bot and a phone network to call it with, on one event loop for all tests of a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from telephony.emulator import PhoneNetwork
from tests.telephony.emulator.tiny_bot import TOKEN, TinyBot, serve


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_bot() -> AsyncIterator[TinyBot]:
    async with serve(TinyBot()) as bot:
        yield bot


@pytest.fixture
def bot(running_bot: TinyBot) -> TinyBot:
    running_bot.reset()
    return running_bot


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncIterator[PhoneNetwork]:
    async with PhoneNetwork(auth_token=TOKEN) as network:
        yield network
