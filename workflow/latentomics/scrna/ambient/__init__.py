"""Removal of ambient RNA, the RNA of broken cells that every droplet takes up."""
