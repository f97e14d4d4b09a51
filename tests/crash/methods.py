"""The corpus goes on: methods of configured instances and of classes, for a user with a role."""

from __future__ import annotations

from dbos import DBOS, DBOSConfiguredInstance, DBOSContextSetAuth, SetWorkflowID
from tests.crash.conversations import CORPUS
from tests.crash.corpus import entry

__all__ = ["CORPUS"]


@DBOS.dbos_class("crash.Multiplier")
class Multiplier(DBOSConfiguredInstance):
    def __init__(self, factor: int) -> None:
        self.factor = factor
        super().__init__(config_name=f"times {factor}")

    @DBOS.step()
    def times(self, value: int) -> int:
        return self.factor * value

    @DBOS.workflow()
    def child(self, value: int) -> int:
        return self.times(value)

    @DBOS.required_roles(["clerk"])
    @DBOS.workflow()
    def parent(self, value: int) -> list[object]:
        other = DBOS.start_workflow(TRIPLE.child, value)
        own = self.child(value)
        return [own, other.get_result(), self.of_class(value), DBOS.assumed_role]

    @classmethod
    @DBOS.workflow()
    def of_class(cls, value: int) -> str:
        return f"{cls.__name__} {TRIPLE.times(value)} {DBOS.authenticated_user}"


DOUBLE, TRIPLE = Multiplier(2), Multiplier(3)


@entry
def methods_of_two_instances() -> list[object]:
    with DBOSContextSetAuth("Ada", ["clerk"]), SetWorkflowID("methods"):
        return DOUBLE.parent(5)


@entry
def a_started_method() -> object:
    with SetWorkflowID("started-method"):
        return DBOS.start_workflow(TRIPLE.child, 4).get_result()
