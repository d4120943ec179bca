"""What a supervisor tells of problems."""
from gwfast.config.model import Gateway, ListenerSet
from gwfast.errors import Problem
from gwfast.serve.generation import Reading
from gwfast.serve.sockets import Port


def port_problem(port: Port, reading: Reading) -> Problem:
    """Say of a port that cannot be opened which listener, or which address of a Gateway, asks for it."""
    graph = reading.graph
    bind = next(bind for bind in reading.plan.binds if bind.key == port.key)
    listener = graph.listeners[bind.listeners[0].id]
    if bind.address:
        resource: Gateway | ListenerSet = graph.gateways[listener.gateway].resource
        field = "spec.addresses"
    else:
        resource = (graph.gateways | graph.listener_sets)[listener.owner].resource
        names = [each.name for each in resource.spec.listeners]
        field = f"spec.listeners[{names.index(listener.name)}].port"
    return Problem(source=resource.source, resource=str(resource.key), field=field, reason="AddressNotUsable",
                   message=f"listener {listener.id} cannot listen on {port.where}: {port.error}")


def identity(problem: Problem) -> tuple[str, ...]:
    """Return what makes a problem the same one though lines have moved."""
    return problem.source.file, problem.resource, problem.field, problem.reason, problem.message


def located(problems: list[Problem]) -> list[Problem]:
    """Give each problem of a file its line; where there are no files, what reads them is not imported."""
    if not any(problem.source.line for problem in problems):
        return problems
    from gwfast.config.locate import locate

    return locate(problems)
