"""A data plane: `gwfast run --controller URL`, a gateway that follows a controller."""
from gwfast.controller.link import where
from gwfast.controller.source import Answers, ControllerSource
from gwfast.observe.log import Log
from gwfast.serve.options import ServeOptions
from gwfast.serve.spawn import ForkServer, Process
from gwfast.serve.supervisor import supervise


async def supervise_plane(options: ServeOptions, log: Log, processes: list[Process], fork_server: ForkServer) -> int:
    """Run a gateway on this event loop until a signal ends it; return the exit status."""
    to = where(options.controller, options.token_file, options.ca_file)
    source = ControllerSource(to, state_dir=options.state_dir, log=log)
    return await supervise(source, options, log, processes, fork_server, Answers(source))
