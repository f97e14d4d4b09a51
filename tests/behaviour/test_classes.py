"""Methods as workflows and steps: which class and instance a run belongs to, and gets again."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from dbos import DBOS, DBOSConfiguredInstance, SetWorkflowID
from dbos.error import (
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSInvalidInputError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Asyncio, Flavour, registered


def identity_of(app: Application, workflow_id: str) -> tuple[Any, Any, Any]:
    [row] = app.rows(
        "SELECT name, class_name, config_name FROM {workflow_status} WHERE workflow_uuid = ?",
        workflow_id,
    )
    return row[0], row[1], row[2]


def test_an_instance_method_runs_as_a_workflow_of_its_instance(
    app: Application, api: Flavour
) -> None:
    @DBOS.dbos_class()
    class Shelf(DBOSConfiguredInstance):
        def __init__(self, height: int) -> None:
            self.height = height
            super().__init__(config_name=f"https://shelf.example/{height}")

        @api.step(name="measure")
        async def measure(self, unit: str) -> str:
            return f"{self.height} {unit}"

        @api.workflow(name="describe")
        async def describe(self, unit: str) -> str:
            return f"{await self.measure(unit)} high"

    low, high = Shelf(1), Shelf(9)

    async def scenario() -> list[str]:
        answers = []
        for shelf in (low, high):
            with SetWorkflowID(f"shelf-{shelf.height}"):
                answers.append(await shelf.describe("feet"))
        return answers

    assert api.run(scenario) == ["1 feet high", "9 feet high"]
    class_name = Shelf.__qualname__
    assert identity_of(app, "shelf-9") == ("describe", class_name, "https://shelf.example/9")
    assert app.steps("shelf-9") == [(1, "measure")]
    status = DBOS.get_workflow_status("shelf-1")
    assert status is not None
    assert status.input == {"args": ("feet",), "kwargs": {}}
    assert (status.class_name, status.config_name) == (class_name, "https://shelf.example/1")


@pytest.mark.parametrize("kind", ["instance", "class", "static"])
def test_a_killed_method_goes_on_with_its_own_class_and_instance(
    app: Application, kind: str
) -> None:
    is_first = app.once()

    @DBOS.dbos_class("Boxes")
    class Box(DBOSConfiguredInstance):
        @DBOS.workflow(name="by_instance")
        def by_instance(self, word: str) -> str:
            return f"{self.config_name} {say(word)}"

        @classmethod
        @DBOS.workflow(name="by_class")
        def by_class(cls, word: str) -> str:
            return f"{cls.__name__} {say(word)}"

        @staticmethod
        @DBOS.workflow(name="by_none")
        def by_none(word: str) -> str:
            return say(word)

    @DBOS.step()
    def say(word: str) -> str:
        if is_first():
            app.cut_power()
        return word

    box, _ = Box("small"), Box("large")
    calls: dict[str, tuple[Any, str, tuple[Any, Any, Any]]] = {
        "instance": (box.by_instance, "small hello", ("by_instance", "Boxes", "small")),
        "class": (Box.by_class, "Box hello", ("by_class", "Boxes", None)),
        "static": (Box.by_none, "hello", ("by_none", None, None)),
    }
    method, expected, identity = calls[kind]
    with SetWorkflowID("boxed"), pytest.raises(PowerCut):
        method("hello")

    app.launch()

    assert DBOS.get_result("boxed") == expected
    assert identity_of(app, "boxed") == identity
    assert app.column("boxed", "recovery_attempts") == 2


def test_a_step_method_that_runs_on_its_own_is_recovered_with_its_instance(
    app: Application,
) -> None:
    is_first, gone = app.once(), threading.Event()

    @DBOS.dbos_class("Lamp")
    class Lamp(DBOSConfiguredInstance):
        @DBOS.step(name="light")
        def light(self, room: str) -> str:
            if is_first():
                app.kill()
                gone.set()
                raise PowerCut
            return f"{self.config_name} lights the {room}"

    lamp = Lamp("candle")
    with SetWorkflowID("lit"):
        DBOS.start_workflow(lamp.light, "hall")
    assert gone.wait(60)

    app.launch()

    assert DBOS.get_result("lit") == "candle lights the hall"
    assert identity_of(app, "lit") == ("<temp>.light", "Lamp", "candle")


def test_an_async_method_of_a_killed_application_goes_on(app: Application) -> None:
    api, is_first = Asyncio(), app.once()

    @DBOS.dbos_class()
    class Ship(DBOSConfiguredInstance):
        @DBOS.workflow()
        async def sail(self, port: str) -> str:
            if is_first():
                app.cut_power()
            return f"{self.config_name} is in {port}"

        @classmethod
        @DBOS.workflow()
        async def sink(cls) -> str:
            return cls.__name__

    ship = Ship("Ada")

    async def first_life() -> None:
        with SetWorkflowID("voyage"):
            await ship.sail("Porto")

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    assert DBOS.get_result("voyage") == "Ada is in Porto"
    assert api.run(Ship.sink) == "Ship"


def test_a_run_waits_for_a_process_that_has_its_instance(
    app: Application, log: pytest.LogCaptureFixture
) -> None:
    lives: list[str] = []

    @DBOS.dbos_class("Tap")
    class Tap(DBOSConfiguredInstance):
        @DBOS.workflow()
        def drip(self) -> str:
            lives.append(self.config_name)
            if len(lives) == 1:
                app.cut_power()
            return self.config_name

    kitchen = Tap("kitchen")
    with SetWorkflowID("drip"), pytest.raises(PowerCut):
        kitchen.drip()
    app.change("UPDATE {workflow_status} SET config_name = 'attic'")
    app.launch()
    with SetWorkflowID("other"):
        assert DBOS.start_workflow(kitchen.drip).get_result() == "kitchen"
    assert app.column("drip", "status") == "ENQUEUED"
    assert lives == ["kitchen", "kitchen"]

    Tap("attic")

    assert DBOS.get_result("drip") == "attic"
    assert "Instance 'attic' of class 'Tap' was registered after DBOS.launch()" in log.text


def test_a_run_waits_for_a_process_that_has_its_class(app: Application) -> None:
    is_first = app.once()

    class Clock:
        @classmethod
        @DBOS.workflow()
        def tick(cls) -> str:
            if is_first():
                app.cut_power()
            return cls.__name__

    DBOS.dbos_class("Clock")(Clock)
    with SetWorkflowID("tick"), pytest.raises(PowerCut):
        Clock.tick()
    app.change("UPDATE {workflow_status} SET class_name = 'Watch'")
    app.launch()
    with SetWorkflowID("tock"):
        assert DBOS.start_workflow(Clock.tick).get_result() == "Clock"
    assert app.column("tick", "status") == "ENQUEUED"

    @DBOS.dbos_class("Watch")
    class Watch(Clock):
        pass

    assert DBOS.get_result("tick") == "Watch"
    assert Watch.tick() == "Watch"


def test_children_of_methods_belong_to_their_instances(app: Application, api: Flavour) -> None:
    @DBOS.dbos_class("Node")
    class Node(DBOSConfiguredInstance):
        @api.workflow(name="leaf")
        async def leaf(self) -> str:
            return self.config_name

        @api.workflow(name="root")
        async def root(self, other: str) -> list[str]:
            node = nodes[other]
            handle = await api.start(bound(node, "leaf"))
            step = await api.run_step({"name": "as step"}, node.plain)
            return [await self.leaf(), await api.result(handle), step]

        async def plain(self) -> str:
            return self.config_name.upper()

    nodes = {name: Node(name) for name in ("a", "b")}

    async def scenario() -> Any:
        with SetWorkflowID("root"):
            return await nodes["a"].root("b")

    assert api.run(scenario) == ["a", "b", "B"]
    assert app.steps("root") == [
        (1, "leaf"),
        (2, "as step"),
        (3, "leaf"),
        (4, "DBOS.getResult"),
        (5, "DBOS.getResult"),
    ]
    assert identity_of(app, "root-1") == ("leaf", "Node", "b")
    assert identity_of(app, "root-3") == ("leaf", "Node", "a")


def bound(instance: object, name: str) -> Any:
    """The bound method as `start_workflow` wants it, whatever the flavour."""
    return registered(vars(type(instance))[name]).__get__(instance)


def test_an_id_belongs_to_one_instance(app: Application) -> None:
    @DBOS.dbos_class("Door")
    class Door(DBOSConfiguredInstance):
        @DBOS.workflow()
        def open(self) -> str:
            return self.config_name

    front, back = Door("front"), Door("back")
    with SetWorkflowID("opened"):
        assert front.open() == "front"

    with (
        SetWorkflowID("opened"),
        pytest.raises(DBOSConflictingWorkflowError, match="already exists with a different"),
    ):
        back.open()

    with SetWorkflowID("opened"):
        assert front.open() == "front"


def test_run_step_runs_a_bound_step_on_its_instance(app: Application) -> None:
    class Pen:
        def __init__(self, colour: str) -> None:
            self.colour = colour

        @DBOS.step(name="write")
        def write(self, word: str) -> str:
            return f"{word} in {self.colour}"

    @DBOS.workflow()
    def letter() -> list[str]:
        return [pen.write("one"), DBOS.run_step(None, pen.write, "two")]

    pen = Pen("red")
    with SetWorkflowID("letter"):
        assert letter() == ["one in red", "two in red"]

    assert pen.write("three") == "three in red"
    assert app.steps("letter") == [(1, "write"), (2, "write")]


def test_subclasses_count_as_their_nearest_decorated_class(app: Application) -> None:
    @DBOS.dbos_class("Animal")
    class Animal(DBOSConfiguredInstance):
        @DBOS.workflow(name="speak")
        def speak(self) -> str:
            return type(self).__name__

    class Dog(Animal):
        @DBOS.workflow(name="bark")
        def bark(self) -> str:
            return f"{self.speak()} barks"

        @classmethod
        @DBOS.workflow(name="breed")
        def breed(cls) -> str:
            return cls.__name__

    @DBOS.dbos_class("Cat")
    class Cat(Animal):
        pass

    animal, dog, cat = Animal("rex"), Dog("dog"), Cat("rex")
    for name, workflow in (
        ("animal", animal.speak),
        ("dog", dog.bark),
        ("breed", Dog.breed),
        ("cat", cat.speak),
    ):
        with SetWorkflowID(name):
            workflow()

    assert [DBOS.get_result(name) for name in ("animal", "dog", "breed", "cat")] == [
        "Animal",
        "Dog barks",
        "Dog",
        "Cat",
    ]
    assert identity_of(app, "dog") == ("bark", "Animal", "dog")
    assert identity_of(app, "breed") == ("breed", "Animal", None)
    assert identity_of(app, "cat") == ("speak", "Cat", "rex")
    with pytest.raises(DBOSException, match="Duplicate instance registration for class"):
        Dog("rex")


def test_a_class_method_of_an_undecorated_subclass_is_recovered_as_its_own(
    app: Application,
) -> None:
    is_first = app.once()

    @DBOS.dbos_class("Tree")
    class Tree:
        pass

    class Oak(Tree):
        acorns = 3

        @classmethod
        @DBOS.workflow()
        def grow(cls) -> int:
            if is_first():
                app.cut_power()
            return cls.acorns

    with SetWorkflowID("oak"), pytest.raises(PowerCut):
        Oak.grow()
    app.launch()

    assert DBOS.get_result("oak") == 3


def test_any_object_with_a_name_can_be_registered(app: Application) -> None:
    @DBOS.dbos_class("Plain")
    class Plain:
        def __init__(self, config_name: Any) -> None:
            self.config_name = config_name

        @DBOS.workflow()
        def name(self) -> Any:
            return self.config_name

    seven = DBOS.register_instance(Plain(7))
    empty = DBOS.register_instance(Plain(""))

    with SetWorkflowID("seven"):
        assert seven.name() == 7
    with SetWorkflowID("empty"):
        assert empty.name() == ""
    assert app.column("seven", "config_name") == "7"
    assert app.column("empty", "config_name") == ""
    assert DBOS.register_instance(seven) is seven
    with pytest.raises(DBOSException, match="Duplicate instance registration for class"):
        DBOS.register_instance(Plain("7"))
    with pytest.raises(DBOSException, match="does not have `config_name` set"):
        DBOS.register_instance(Plain(None))
    with pytest.raises(DBOSInvalidInputError, match="NUL"):
        DBOS.register_instance(Plain("a\0"))


def test_classes_that_are_not_registered_are_refused_and_nothing_runs(app: Application) -> None:
    class Stray(DBOSConfiguredInstance):
        @DBOS.workflow()
        def run(self) -> None: ...

        @classmethod
        @DBOS.workflow()
        def of_class(cls) -> None: ...

        @staticmethod
        @DBOS.workflow(name="static")
        def of_none() -> str:
            return "ran"

        @DBOS.step()
        def look(self) -> str:
            return self.config_name

    stray = Stray("cat")

    with pytest.raises(DBOSException, match="appears to be a class instance, but is not properly"):
        stray.run()
    with pytest.raises(DBOSException, match="appears to be a class instance, but is not properly"):
        DBOS.start_workflow(stray.look)
    with pytest.raises(DBOSException, match="appears to be a class, but is not properly registere"):
        Stray.of_class()
    with pytest.raises(DBOSException, match="not properly registered"):
        DBOS.register_instance(stray)
    assert app.count("workflow_status") == 0
    assert (Stray.of_none(), stray.look()) == ("ran", "cat")


def test_an_instance_without_a_name_or_registration_runs_no_workflow(app: Application) -> None:
    @DBOS.dbos_class("Nameless")
    class Nameless:
        @DBOS.workflow()
        def run(self) -> None: ...

    named = Nameless()
    named.config_name = "unregistered"  # type: ignore[attr-defined]

    with pytest.raises(DBOSException, match="does not have `config_name` set"):
        Nameless().run()
    with pytest.raises(DBOSException, match="appears to be a class instance, but is not properly"):
        named.run()
    assert app.count("workflow_status") == 0


def test_two_classes_may_not_share_a_name(shop: Application) -> None:
    @DBOS.dbos_class("Twin")
    class First: ...

    with pytest.raises(DBOSException, match="Duplicate type registration for class"):

        @DBOS.dbos_class("Twin")
        class Second: ...

    DBOS.destroy(destroy_registry=True)
    assert DBOS.dbos_class("Twin")(First) is First


def test_a_shop_is_named_in_its_executors_row(app: Application) -> None:
    @DBOS.dbos_class("Post")
    class Post(DBOSConfiguredInstance):
        @DBOS.workflow(name="send")
        def send(self) -> None: ...

    Post("office")
    app.relaunch()

    [(text,)] = app.rows("SELECT capabilities FROM {perdure_executors}")
    capabilities = json.loads(text)
    [function] = [function for function in capabilities["functions"] if function[0] == "send"]
    assert function[:2] == ["send", "Post"]
    assert capabilities["instances"] == [["Post", "office"]]
