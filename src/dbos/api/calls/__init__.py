"""The families of calls that make up the facade `DBOS`: one class for each capability."""
