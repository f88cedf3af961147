"""Access of people and automation to hosts: certificates and second factors."""
