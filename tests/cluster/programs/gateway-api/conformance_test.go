// Package tools is the official conformance suite of the Gateway API as a program: the suite's module, unmodified.
package tools

import (
	"encoding/json"
	"os"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// TestConformance runs the suite with the flags that the suite itself defines.
func TestConformance(t *testing.T) { conformance.RunConformance(t) }

// registered is what the suite knows of one of its tests. Profiles has "core" or "extended" for each profile that counts it.
type registered struct {
	Name        string                                  `json:"name"`
	Features    []features.FeatureName                  `json:"features"`
	Provisional bool                                    `json:"provisional"`
	Profiles    map[suite.ConformanceProfileName]string `json:"profiles"`
}

var profiles = []suite.ConformanceProfile{
	suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile, suite.GatewayTLSConformanceProfile,
	suite.GatewayTCPConformanceProfile, suite.GatewayUDPConformanceProfile,
}

// TestRegistered runs nothing: it writes a line of JSON for each test that the suite has, so that a run can be held against them.
func TestRegistered(t *testing.T) {
	lines := json.NewEncoder(os.Stdout)
	for _, test := range tests.ConformanceTests {
		told := registered{test.ShortName, test.Features, test.Provisional, map[suite.ConformanceProfileName]string{}}
		for _, profile := range profiles {
			if level := levelIn(profile, test.Features); level != "" {
				told.Profiles[profile.Name] = level
			}
		}
		if err := lines.Encode(told); err != nil {
			t.Fatal(err)
		}
	}
}

// levelIn says how a profile counts a test with such features, "" where it does not: one extended feature makes it extended.
func levelIn(profile suite.ConformanceProfile, needed []features.FeatureName) string {
	level := "core"
	for _, feature := range needed {
		if profile.ExtendedFeatures.Has(feature) {
			level = "extended"
		} else if !profile.CoreFeatures.Has(feature) {
			return ""
		}
	}
	return level
}
