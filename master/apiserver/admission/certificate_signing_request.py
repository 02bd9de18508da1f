"""Who asked for a certificate is what the server saw, not what the request claims; nobody changes a request afterwards.

Upstream does this in the kind's strategy (`pkg/registry/certificates/certificates/strategy.go`).
"""

from __future__ import annotations

from master.apiserver.admit import Attributes, World


class _CertificateSigningRequest:
    name = "CertificateSigningRequest"
    order = 5
    operations = frozenset({"create", "update"})
    resources = frozenset({"certificatesigningrequests"})

    def admit(self, write: Attributes, world: World) -> None:  # noqa: ARG002 - the protocol's
        assert write.document is not None
        if write.old is not None:
            write.document["spec"] = write.old["spec"]
            return
        spec = write.document["spec"]
        spec |= {"username": write.user.name, "groups": list(write.user.groups), "uid": write.user.uid}
        for key in [key for key in ("groups", "uid") if not spec[key]]:
            del spec[key]


ADMISSION = _CertificateSigningRequest()
