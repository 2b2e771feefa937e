"""Does the executor that needs nothing but this process keep what executors promise?"""

from tests.run.conformance import ExecutorConformance


class TestLocalExecutor(ExecutorConformance):
    name = "local"
