//! Every type that the HTTP interfaces carry as JSON, by name: a new request or answer is added here.

use homeserver_api::{
    admin, client, consortium, contacts, evidence, keys, password, policy, problem,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads `bytes` as one type; what it reads comes back the same when it is written and read again.
type Reader = fn(&[u8]) -> bool;

fn round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return false;
    };
    let written = serde_json::to_vec(&value).unwrap();
    let again = serde_json::from_slice::<T>(&written).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    true
}

macro_rules! every_type {
    ($($module:ident :: $name:ident,)*) => {
        /// Each type's name and its reader.
        pub const EVERY_TYPE: &[(&str, Reader)] =
            &[$((stringify!($name), round_trip::<$module::$name>),)*];
    };
}

every_type! {
    admin::AcceptRequest,
    admin::AmendRequest,
    admin::Amended,
    admin::AuditExport,
    admin::AuditGrowth,
    admin::AuditHead,
    admin::AuditPage,
    admin::AuditProof,
    admin::AuditSighting,
    admin::AuditWitnesses,
    admin::BackupRequest,
    admin::BarriersChanged,
    admin::BarriersRequest,
    admin::BarriersState,
    admin::ChangeUserRequest,
    admin::CloseReportRequest,
    admin::ConsentRequest,
    admin::CountersignRequest,
    admin::CreateUserRequest,
    admin::CreatedUser,
    admin::DeadLetters,
    admin::DocumentSummary,
    admin::EraseRequest,
    admin::ExplainRequest,
    admin::Explanation,
    admin::OfferRequest,
    admin::Outbox,
    admin::PartnerHalf,
    admin::PeerDetail,
    admin::PeeringDocument,
    admin::Peers,
    admin::Quarantine,
    admin::QuarantinedDetail,
    admin::ReasonRequest,
    admin::Receipts,
    admin::RefuseAmendmentRequest,
    admin::ReportDetail,
    admin::ReportSummary,
    admin::Reports,
    admin::ResetPasswordRequest,
    admin::RestoredStatus,
    admin::ServerStatus,
    admin::SignInRequest,
    admin::SignInResponse,
    admin::UserDetail,
    admin::UserType,
    admin::UserTypes,
    admin::Users,
    client::AccountInfo,
    client::AgreeRequest,
    client::Anchors,
    client::AccountHistory,
    client::ApproveRequest,
    client::EnrolPending,
    client::LogHead,
    client::LogStatements,
    client::EnrolRequest,
    client::EnrolResponse,
    client::FileInfo,
    client::KeyPackageCount,
    client::KeyPackages,
    client::RenewRequest,
    client::RenewResponse,
    client::RoomCertificate,
    client::ServerInfo,
    client::SignInAgainRequest,
    consortium::CharterRequest,
    consortium::CharterSummary,
    consortium::Consortia,
    consortium::IntroductionRequest,
    consortium::Joined,
    consortium::MergeRequest,
    consortium::SignCharterRequest,
    contacts::ContactInfo,
    contacts::ContactRequest,
    contacts::Contacts,
    evidence::EvidenceDetail,
    evidence::EvidenceList,
    evidence::EvidencePage,
    keys::AnnounceRootRequest,
    keys::KeysStatus,
    keys::RevokeEnvelopeKeyRequest,
    keys::RevokeTlsKeyRequest,
    keys::RootStatus,
    keys::RotateKeyRequest,
    keys::SwitchRootRequest,
    password::ChangePasswordRequest,
    policy::OwnRules,
    policy::UserTypePolicy,
    problem::Problem,
}
