"""ServiceAccount tokens: signed, and verified against the account and the object they are bound to.

A signature is checked once and remembered; that token, account, pod and so on are still good is checked each time, from
the watch caches. Source: k/k `pkg/serviceaccount/{jwt,claims,openidmetadata}.go`.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from labctl.kube.errors import Unavailable
from labctl.kube.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource
from labctl.runtime.clock import Clock, parse_time
from labctl.runtime.errors import LabError
from master.apiserver.registry import Registry
from master.apiserver.request import User
from master.apiserver.storage import Storage
from master.apiserver.watchcache import Cached

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCES = (ISSUER,)
# What admission asks for on behalf of each pod: such a token is good for a year, so that programs that read theirs only
# once go on working; the kubelet replaces it within the hour all the same.
PROJECTED_S = 3607
OPENID_PATH, JWKS_PATH = "/.well-known/openid-configuration", "/openid/v1/jwks"
_LEEWAY_S = 60.0  # clocks differ; as upstream's
_KEPT = 1024  # verified tokens
_LONGEST = 16_384
_CURRENT_S = 5.0

Document = dict[str, Any]


class InvalidToken(LabError):
    """It is not one of ours, or no longer good."""


class Ref(msgspec.Struct, frozen=True):
    """An object that a token is bound to."""

    name: str
    uid: str = ""


class _About(msgspec.Struct, frozen=True):
    namespace: str
    serviceaccount: Ref
    pod: Ref | None = None
    secret: Ref | None = None
    node: Ref | None = None


class _Claims(msgspec.Struct, frozen=True, rename={"about": "kubernetes.io"}):
    iss: str
    sub: str
    exp: float
    nbf: float
    about: _About
    aud: str | tuple[str, ...] = ()
    jti: str = ""


class _Issued(msgspec.Struct, frozen=True):
    iss: str = ""


class _Meta(msgspec.Struct, frozen=True):
    uid: str
    deleted: str | None = msgspec.field(name="deletionTimestamp", default=None)


class _Headed(msgspec.Struct, frozen=True):
    metadata: _Meta


_head = msgspec.json.Decoder(_Headed).decode


class _Known:
    """A token whose signature is good; `bound` remembers the objects that were found good, to look at each once."""

    __slots__ = ("bound", "claims")

    def __init__(self, claims: _Claims) -> None:
        self.claims = claims
        self.bound: dict[str, Cached] = {}


class Tokens:
    """Signs and verifies with one key, ECDSA or RSA. Safe to share between threads."""

    def __init__(self, key_file: str, storage: Storage, registry: Registry, clock: Clock) -> None:
        self._key_file, self._storage, self._registry, self._clock = key_file, storage, registry, clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def sign(self, claims: Document) -> str:
        """A token with these claims; Unavailable where there is no key."""
        import jwt  # noqa: PLC0415 - slow to import, and many clusters' lives begin without a token

        key, algorithm, key_id = self._key
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": key_id})

    def verify(self, token: str, audiences: Sequence[str] = AUDIENCES) -> tuple[User, list[str]]:
        """Whose token it is, and for which of `audiences`; InvalidToken."""
        with self._lock:
            known = self._known.get(token)
            if known is not None:
                self._known.move_to_end(token)
        if known is None:
            known = _Known(self._verified(token))
            with self._lock:
                self._known[token] = known
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
        claims, now_s = known.claims, self._clock.now().timestamp()
        if now_s > claims.exp + _LEEWAY_S:
            raise InvalidToken("service account token has expired")
        if now_s < claims.nbf - _LEEWAY_S:
            raise InvalidToken("service account token is not valid yet")
        named = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        meant = [audience for audience in named if audience in audiences]
        if not meant:
            raise InvalidToken(f"token audiences {list(named)} is invalid for the target audiences {list(audiences)}")
        self._check_bound(known, now_s)
        return _user(claims), meant

    def discovery(self) -> Document:
        """/.well-known/openid-configuration."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}{JWKS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._key[1]],
        }

    def jwks(self) -> Document:
        """The public key as a JSON Web Key Set."""
        import jwt  # noqa: PLC0415 - see `sign`

        key, algorithm, key_id = self._key
        found = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
        kept = {name: value for name, value in found.items() if name != "key_ops"}
        return {"keys": [{"use": "sig", "kid": key_id, "alg": algorithm, **kept}]}

    @cached_property
    def _key(self) -> tuple[Any, str, str]:
        """The private key, its algorithm and its id."""
        if not self._key_file:
            raise Unavailable("tokens cannot be signed: service_account_key_file is not set", details={})
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see `sign`
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey  # noqa: PLC0415

        key = serialization.load_pem_private_key(Path(self._key_file).read_bytes(), password=None)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key_id = base64.urlsafe_b64encode(hashlib.sha256(public).digest()).rstrip(b"=").decode()
        algorithm = "RS256"
        if isinstance(key, EllipticCurvePrivateKey):
            algorithm = {256: "ES256", 384: "ES384"}.get(key.curve.key_size, "ES512")
        return key, algorithm, key_id

    def _verified(self, token: str) -> _Claims:
        """The claims of a token that we signed."""
        parts = token.split(".")
        if len(token) > _LONGEST or len(parts) != 3 or _issuer(parts[1]) != ISSUER or not self._key_file:
            raise InvalidToken("invalid bearer token")
        import jwt  # noqa: PLC0415 - see `sign`

        key, algorithm, _ = self._key
        # What time it is, and whom it is for, is judged by our clock and at each use.
        options: Any = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
        try:
            found = jwt.decode(token, key.public_key(), algorithms=[algorithm], options=options)
            return msgspec.convert(found, _Claims)
        except (jwt.PyJWTError, msgspec.ValidationError) as error:
            raise InvalidToken("invalid bearer token") from error

    def _check_bound(self, known: _Known, now_s: float) -> None:
        about = known.claims.about
        namespace, account = about.namespace, about.serviceaccount
        if known.claims.sub != f"system:serviceaccount:{namespace}:{account.name}":
            raise InvalidToken("token subject does not match its claims")
        self._check(known, SERVICE_ACCOUNTS, namespace, account, now_s)
        if about.secret is not None:
            self._check(known, SECRETS, namespace, about.secret, now_s)
        if about.pod is not None:
            self._check(known, PODS, namespace, about.pod, now_s)
        elif about.node is not None:
            self._check(known, NODES, "", about.node, now_s)

    def _check(self, known: _Known, resource: Resource, namespace: str, ref: Ref, now_s: float) -> None:
        """The very object still stands. One that the cache does not show is looked for in the store."""
        kind = self._registry.of(resource)
        cache, key = self._storage.cache(kind), kind.key(namespace, ref.name)
        found = cache.get(key)
        if found is not None and known.bound.get(resource.plural) is found:
            return
        if found is None or _head(found.raw).metadata.uid != ref.uid:
            cache.wait_current(deadline_s=_CURRENT_S)
            found = cache.get(key)
        if found is None:
            raise InvalidToken("service account token has been invalidated")
        meta = _head(found.raw).metadata
        if meta.uid != ref.uid:
            raise InvalidToken(f"{resource.singular} UID ({meta.uid}) does not match claim ({ref.uid})")
        if meta.deleted is None:
            known.bound[resource.plural] = found
        elif _seconds(parse_time(meta.deleted)) < now_s - _LEEWAY_S:
            raise InvalidToken("service account token has been invalidated")


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _issuer(payload: str) -> str:
    """Who says to have signed: tokens of others are not looked at."""
    try:
        raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(raw, type=_Issued).iss
    except (ValueError, msgspec.MsgspecError):
        return ""


def _user(claims: _Claims) -> User:
    about = claims.about
    extra = []
    if claims.jti:
        extra.append(("authentication.kubernetes.io/credential-id", (f"JTI={claims.jti}",)))
    for kind, ref in (("node", about.node), ("pod", about.pod)):
        if ref is not None:
            extra.append((f"authentication.kubernetes.io/{kind}-name", (ref.name,)))
            if ref.uid:
                extra.append((f"authentication.kubernetes.io/{kind}-uid", (ref.uid,)))
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{about.namespace}", "system:authenticated")
    return User(claims.sub, groups, about.serviceaccount.uid, tuple(extra))
