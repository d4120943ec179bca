package tools

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// TestConformance runs the official suite, unmodified, with the flags that the suite itself defines.
func TestConformance(t *testing.T) { conformance.RunConformance(t) }
