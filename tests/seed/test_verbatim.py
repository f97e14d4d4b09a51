"""The files of the examples are the code blocks of the seed, byte for byte, and all have a test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "examples" / "seed"

# Of each heading of the seed with a code block: the file with the block, and the SHA-256 of the
# block as it is published, with one newline at its end.
BLOCKS = {
    "Basic Application Structure": (
        "basic_application_structure",
        "a1a25df0e1b7251a22d14a21e75339cbde9767568cd0c30ea7d049f39e2b87aa",
    ),
    "Steps with Retry Configuration": (
        "steps_with_retry_configuration",
        "1f751a20d9df10062f59a44a71a086feb7c3d56f66f247f08d99255cac8ef882",
    ),
    "Database Transactions": (
        "database_transactions",
        "c8a6923fc210d75464a89e1b765241bdb009cdaad6da659ac46d0ab910269aab",
    ),
    "Background Workflows": (
        "background_workflows",
        "3a953d6328a797e6a8645ac68d646448180e41193bafd9d570b54360d923a34e",
    ),
    "Queue-Based Processing": (
        "queue_based_processing",
        "943e9e58a5e1e519e868a0a7a7bc8bcc3a039ac5c895d3c3f6813b86ac7276cf",
    ),
    "Queue with Partitioning": (
        "queue_with_partitioning",
        "8a9efceab412cf88590d0fddafbcee25e62bfdb120a86ffe9c832fb59125385f",
    ),
    "Workflow Communication - Messages": (
        "workflow_communication_messages",
        "eab267d40188c2ac833ef993f5fd0d1ab724cf4e0fecc69a5ffb058a669f23c7",
    ),
    "Workflow Communication - Events": (
        "workflow_communication_events",
        "5ad2d05414e2e3a9a3f8f00a1a98d6c19b7ec1f047c371e263977a06ffd08591",
    ),
    "Durable Sleep": (
        "durable_sleep",
        "cc2c4f3b32066875b713c8252272c09acc63a32689d70ac235ad0789f746a54b",
    ),
    "Scheduled Workflows (Cron)": (
        "scheduled_workflows",
        "6fca8b516db13b3e07f141ce9d6f80a43c737b290445a14c6f42dbf7f79e5e8a",
    ),
    "Idempotent Workflows": (
        "idempotent_workflows",
        "6cb64e01b3516073bfeef8e3d7ba800fd06f5789607b78af2dd17be9014a58bc",
    ),
    "Workflow Timeout": (
        "workflow_timeout",
        "ca0ff54f25a5f2d95a79a5d4dc195330ef7d6d6dad4cd07f8cf4002a304e5a71",
    ),
    "Debouncing": (
        "debouncing",
        "ed10e1101864dab8d642134c21ab64f65e4554169b4e6224b1a08831fd2d391c",
    ),
    "Async Workflows": (
        "async_workflows",
        "a117cd607a4e32ff8fe51e0924b347c7110de8d9c3240b584e0d7e14e8f0a799",
    ),
    "FastAPI Integration": (
        "fastapi_integration",
        "9b088af7dd6aba38cb39878da0671c6c627cb0474fb97157176ddc2171095262",
    ),
    "Class-Based Workflows": (
        "class_based_workflows",
        "92dfbfcb626ab7c911c220930633c7ef77a19d0ed52af5aadf200a58c1163d8b",
    ),
    "Workflow Introspection": (
        "workflow_introspection",
        "dd435dd2d80e2ed5a24e87e57ee9b2c27505f2463f0f3a5ddc8bf3fc8dde7719",
    ),
    "Testing": (
        "testing",
        "0dbe6feeb768e2a9f7eea519851eb2c4c01840e202a55a0c1520d9b337d491c1",
    ),
    "Configuration Options": (
        "configuration_options",
        "26c18fade06b35bc5b53d999a515bd5a5538c9a97b6f2f17d4761cda8b7f9c13",
    ),
}

HASHES = dict(BLOCKS.values())
NAMES = sorted(path.stem for path in EXAMPLES.iterdir() if path.is_file())


@pytest.mark.parametrize("name", NAMES)
def test_each_example_is_a_block_of_the_seed_to_the_byte(name: str) -> None:
    block = (EXAMPLES / f"{name}.py").read_bytes()

    assert hashlib.sha256(block).hexdigest() == HASHES.get(name)


def test_each_example_is_run_by_a_test() -> None:
    tests = [*(TESTS / "seed").glob("test_*.py"), TESTS / "process" / "test_web.py"]
    text = "\n".join(path.read_text() for path in tests if path != Path(__file__))

    untested = [name for name in NAMES if f'"{name}"' not in text and f"{name}.py" not in text]

    assert untested == []


def test_every_block_has_its_example() -> None:
    assert sorted(HASHES) == NAMES
