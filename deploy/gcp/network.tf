# A network of its own: the database has no public address, and Cloud Run reaches it from a subnet.

resource "google_project_service" "needed" {
  for_each = toset([
    "artifactregistry", "cloudresourcemanager", "cloudscheduler", "compute", "iam", "iamcredentials", "run", "secretmanager",
    "servicenetworking", "sqladmin", "sts",
  ])
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

resource "google_compute_network" "main" {
  name                    = "kasparro"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.needed]
}

resource "google_compute_subnetwork" "run" {
  name                     = "kasparro-run"
  network                  = google_compute_network.main.id
  ip_cidr_range            = "10.20.0.0/24"
  private_ip_google_access = true
}

resource "google_compute_global_address" "services" {
  name          = "kasparro-services"
  network       = google_compute_network.main.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.main.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}
