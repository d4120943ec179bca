"""What is planned and made of some documents, for tests of a controller."""
from controller_cases import AUTHORITY, CLASS, SITE, planned, targets_for, uid_of

from gwfast.config.model import Key
from gwfast.controller.desired import desired


WITH_PARAMETERS = CLASS.replace("controller}", """controller, parametersRef: {group: gwfast.dev, kind: GatewayParameters, name: all, namespace: a}}
---
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {name: all, namespace: a}
spec: %s""")

GATEWAY = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s, namespace: shop}
spec: {gatewayClassName: gwfast, listeners: [{name: a, port: 80, protocol: HTTP}, {name: d, port: 53, protocol: UDP}]%s}
"""

G = Key("Gateway", "shop", "g")


def make(text):
    plan = planned(text)
    return plan, targets_for(plan), desired(plan, SITE, uid_of, targets_for(plan), AUTHORITY)
