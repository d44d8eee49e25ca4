package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Nothing that is signed here outlives a test or a developer's cluster.
const validity = 365 * 24 * time.Hour

// Makes what a cluster's API server needs, or a user's certificate.
func certificates(arguments []string) error {
	switch {
	case len(arguments) > 2 && arguments[0] == "cluster":
		return clusterCertificates(arguments[1], arguments[2:])
	case len(arguments) == 2 && arguments[0] == "authority":
		return printAuthority(arguments[1])
	case len(arguments) > 2 && arguments[0] == "user":
		return userCertificate(arguments[1], arguments[2], arguments[3:])
	}
	return errors.New("usage: certificates cluster FOLDER ADDRESS... | authority FOLDER | user FOLDER NAME [GROUP...]")
}

type pair struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
}

// Writes into the folder: an authority, and certificates with keys of the API server, of the API server as kubelets know it, and of
// those who sign service account tokens.
func clusterCertificates(folder string, addresses []string) error {
	authority, err := issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "tallyman cluster"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, nil)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		},
	}
	for _, address := range addresses {
		ip := net.ParseIP(address)
		if ip == nil {
			return errors.New(address + ": not an IP address")
		}
		server.IPAddresses = append(server.IPAddresses, ip)
	}
	apiserver, err := issue(server, authority)
	if err != nil {
		return err
	}
	tokens, err := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "service accounts"}}, authority)
	if err != nil {
		return err
	}
	client, err := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"ca.crt": authority.Certificate, "ca.key": authority.Key,
		"apiserver.crt": apiserver.Certificate, "apiserver.key": apiserver.Key,
		"kubelet-client.crt": client.Certificate, "kubelet-client.key": client.Key,
		"service-accounts.crt": tokens.Certificate, "service-accounts.key": tokens.Key,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Prints the authority's certificate: base64 of PEM, as kubeconfig files have it.
func printAuthority(folder string) error {
	certificate, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return err
	}
	fmt.Println(base64.StdEncoding.EncodeToString(certificate))
	return nil
}

// Prints a certificate by which the API server knows a user, and its key: base64 of PEM, as kubeconfig files have them.
func userCertificate(folder, name string, groups []string) error {
	authority := &pair{}
	var err error
	if authority.Certificate, err = os.ReadFile(filepath.Join(folder, "ca.crt")); err != nil {
		return err
	}
	if authority.Key, err = os.ReadFile(filepath.Join(folder, "ca.key")); err != nil {
		return err
	}
	user, err := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(user)
}

// Signs with a new key's own authority where no other is given.
func issue(template *x509.Certificate, authority *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	// Clocks of tests may be somewhat behind.
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(validity)
	parent, signer := template, any(key)
	if authority != nil {
		if parent, signer, err = parsed(authority); err != nil {
			return nil, err
		}
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes}),
	}, nil
}

func parsed(authority *pair) (*x509.Certificate, any, error) {
	certificate, _ := pem.Decode(authority.Certificate)
	key, _ := pem.Decode(authority.Key)
	if certificate == nil || key == nil {
		return nil, nil, errors.New("the authority's files are not PEM")
	}
	parent, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return nil, nil, err
	}
	signer, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	return parent, signer, err
}
