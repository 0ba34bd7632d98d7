//! Service Auth: users, roles, and logging in. What a user may do is decided by the store and its
//! service; here it is only said who asks.

use super::core::Core;
use super::error;
use super::proto::{authpb, etcdserverpb as pb};
use super::tls::CommonName;
use crate::api::{
    Access, AuthAnswer, AuthChange, AuthError, AuthQuestion, Keys, KvError, Password, Permission,
    Secret,
};
use bytes::Bytes;
use http::{Extensions, HeaderMap};
use pb::auth_server::Auth;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The headers that may hold a token, over gRPC as over HTTP.
const TOKEN_HEADERS: [&str; 2] = ["token", "authorization"];

/// The token of a request, if it says who asks: it is taken along also where this node knows of no
/// users, for it may be behind the others.
pub(super) fn token_of(core: &Core, headers: &HeaderMap, known: &Extensions) -> Option<String> {
    let shown = TOKEN_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
    if let Some(token) = shown {
        return Some(token.strip_prefix("Bearer ").unwrap_or(token).into());
    }
    // Where authentication is enabled, the common name of a certificate is the user of those that
    // show no token.
    let CommonName(name) = known.get().filter(|_| core.service.store().is_auth_enabled())?;
    core.service.token_for(name)
}

/// What a password was made into elsewhere is not taken: it could not be told from one that is easy
/// to find.
fn refuse_hash(hashed: &str) -> Result<(), Status> {
    match hashed {
        "" => Ok(()),
        _ => Err(Status::invalid_argument("etcdserver: hashedPassword is not taken")),
    }
}

/// See the module.
pub(super) struct AuthDoor(pub(super) Arc<Core>);

/// What all answers without contents are.
macro_rules! done {
    ($self:ident, $answer:ident, $change:expr) => {{
        $self.0.change_auth($change).await?;
        Ok(Response::new(pb::$answer { header: Some($self.0.header_now()) }))
    }};
}

#[tonic::async_trait]
impl Auth for AuthDoor {
    async fn auth_enable(
        &self,
        _request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        done!(self, AuthEnableResponse, AuthChange::Enable { secret: Secret::default() })
    }

    async fn auth_disable(
        &self,
        _request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        done!(self, AuthDisableResponse, AuthChange::Disable)
    }

    async fn auth_status(
        &self,
        _request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let AuthAnswer::Status(status) = self.0.ask_auth(AuthQuestion::Status).await? else {
            return Err(error::TIMED_OUT.into());
        };
        let header = Some(self.0.header_now());
        let (enabled, auth_revision) = (status.enabled, status.revision);
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.0.client.authenticate(name, password).await;
        let token = token.map_err(|error| self.0.fail(&error))?;
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let pb::AuthUserAddRequest { name: user, password, options, hashed_password } =
            request.into_inner();
        refuse_hash(&hashed_password)?;
        let password = match options.is_some_and(|options| options.no_password) {
            true => Password::None,
            false => Password::Plain(password),
        };
        done!(self, AuthUserAddResponse, AuthChange::AddUser { user, password })
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let question = AuthQuestion::User(request.into_inner().name);
        let AuthAnswer::User(roles) = self.0.ask_auth(question).await? else {
            return Err(error::TIMED_OUT.into());
        };
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        _request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let AuthAnswer::Users(users) = self.0.ask_auth(AuthQuestion::Users).await? else {
            return Err(error::TIMED_OUT.into());
        };
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let user = request.into_inner().name;
        done!(self, AuthUserDeleteResponse, AuthChange::DeleteUser { user })
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let pb::AuthUserChangePasswordRequest { name: user, password, hashed_password } =
            request.into_inner();
        refuse_hash(&hashed_password)?;
        let password = Password::Plain(password);
        let change = AuthChange::ChangePassword { user, password };
        done!(self, AuthUserChangePasswordResponse, change)
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let pb::AuthUserGrantRoleRequest { user, role } = request.into_inner();
        done!(self, AuthUserGrantRoleResponse, AuthChange::GrantRole { user, role })
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let pb::AuthUserRevokeRoleRequest { name: user, role } = request.into_inner();
        done!(self, AuthUserRevokeRoleResponse, AuthChange::RevokeRole { user, role })
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let role = request.into_inner().name;
        done!(self, AuthRoleAddResponse, AuthChange::AddRole { role })
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let question = AuthQuestion::Role(request.into_inner().role);
        let AuthAnswer::Role(permissions) = self.0.ask_auth(question).await? else {
            return Err(error::TIMED_OUT.into());
        };
        let header = Some(self.0.header_now());
        let perm = permissions.into_iter().map(told).collect();
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        _request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let AuthAnswer::Roles(roles) = self.0.ask_auth(AuthQuestion::Roles).await? else {
            return Err(error::TIMED_OUT.into());
        };
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let role = request.into_inner().role;
        done!(self, AuthRoleDeleteResponse, AuthChange::DeleteRole { role })
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let pb::AuthRoleGrantPermissionRequest { name: role, perm } = request.into_inner();
        let permission = permission(perm)?;
        let change = AuthChange::GrantPermission { role, permission };
        done!(self, AuthRoleGrantPermissionResponse, change)
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.into_inner();
        let keys = keys_of(key, range_end);
        let change = AuthChange::RevokePermission { role, keys };
        done!(self, AuthRoleRevokePermissionResponse, change)
    }
}

impl Core {
    async fn change_auth(&self, change: AuthChange) -> Result<(), Status> {
        let enables = matches!(change, AuthChange::Enable { .. });
        let until = self.until();
        let changed = self.client_until(until).change_auth(change).await;
        let revision = changed.map_err(|error| self.fail(&error))?;
        // From now on this node goes by it, too. Enabling has no revision of its own.
        let is_known = |core: &Self| {
            let auth = core.service.store().auth();
            auth.revision() >= revision && (auth.is_enabled() || !enables)
        };
        self.reach(until, is_known).await;
        Ok(())
    }

    async fn ask_auth(&self, question: AuthQuestion) -> Result<AuthAnswer, Status> {
        self.client.ask_auth(question).await.map_err(|error| self.fail(&error))
    }
}

fn permission(asked: Option<authpb::Permission>) -> Result<Permission, Status> {
    let refuse = |error| error::of_kv(&KvError::Auth(error), true);
    let asked = asked.ok_or_else(|| refuse(AuthError::PermissionNotGiven))?;
    let access = match authpb::permission::Type::try_from(asked.perm_type) {
        Ok(authpb::permission::Type::Read) => Access::Read,
        Ok(authpb::permission::Type::Write) => Access::Write,
        Ok(authpb::permission::Type::Readwrite) => Access::ReadWrite,
        Err(_) => return Err(refuse(AuthError::InvalidManagement)),
    };
    Ok(Permission { access, keys: keys_of(asked.key, asked.range_end) })
}

fn keys_of(key: Bytes, range_end: Bytes) -> Keys {
    match &range_end[..] {
        [] => Keys::One(key),
        [0] => Keys::Range { start: key, end: None },
        _ => Keys::Range { start: key, end: Some(range_end) },
    }
}

fn told(permission: Permission) -> authpb::Permission {
    let perm_type = match permission.access {
        Access::Read => authpb::permission::Type::Read,
        Access::Write => authpb::permission::Type::Write,
        Access::ReadWrite => authpb::permission::Type::Readwrite,
    };
    let (key, range_end) = match permission.keys {
        Keys::One(key) => (key, Bytes::new()),
        Keys::Range { start, end } => (start, end.unwrap_or_else(|| Bytes::from_static(&[0]))),
    };
    authpb::Permission { perm_type: perm_type.into(), key, range_end }
}
