"""A node without containers: scheduler, kubelet, runtime, kube-proxy, DNS and load balancer of a cluster in one program.

    python -m node --state FOLDER [--images FILE] [--hosts FILE]      (started by cluster.py, inside a sandbox)

    __main__   watches the API server and hands Pods to their threads
    pod        a Pod from its first container to its last word; a thread each
    container  one container: starts, probes, ends, restarts
    launch     what runs between fork and exec: mounts, user, capabilities
    images     which program stands for an image
    volumes    Secrets, ConfigMaps, tokens and what else is mounted; kept up to date
    probes     httpGet, tcpSocket, exec
    work       the threads that write to the API server
    status     what is told of a Pod
    network    a network namespace for a Pod, routed as Calico does it
    services   cluster addresses, node ports and load balancers by nftables, as kube-proxy does it
    conntrack  forgets where datagrams went
    dns        cluster.local
    kubelet    what the API server asks a kubelet: logs

A Pod is its processes in namespaces of their own (network, mounts, processes, names) on an overlay of this machine's own file
system: every program that is here is in every image, and what a container writes is gone with it. Memory and CPU limits are
not enforced. IPv4 alone.
"""
