terraform {
  required_version = ">= 1.6"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.30, < 8"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
  # State holds passwords: keep it in a bucket that few may read.
  #   terraform init -backend-config=bucket=YOUR-STATE-BUCKET -backend-config=prefix=kasparro
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region
}
